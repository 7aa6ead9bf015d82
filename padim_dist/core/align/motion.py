"""How a picture lies against the reference: a turn and a shift, as plain numbers without torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Rows of a map of places: new y = row[0] y + row[1] x + row[2], and the same for x."""


@dataclass(frozen=True)
class Motion:
    """How the content of a picture lies against that of the reference.

    Attributes
    ----------
    shift_y, shift_x : float
        How far its centre lies below and to the right, in pixels of the resized picture.
    angle : float
        How far it is turned about the centre, in degrees, counterclockwise.
    """

    shift_y: float
    shift_x: float
    angle: float

    def scaled(self, y: float, x: float) -> Motion:
        """Return the motion in pixels that are so many times smaller along each axis."""
        return Motion(self.shift_y * y, self.shift_x * x, self.angle)

    def affine(self, grid: tuple[int, int], size: tuple[int, int]) -> Affine:
        """Return the map from places in the reference to places in the picture.

        Places are (y, x) in pixels of `grid`; 0 is the edge of the first pixel, not its centre.

        Parameters
        ----------
        grid : (int, int)
            Height and width of the resized picture.
        size : (int, int)
            Those of the original: a turn keeps the shape of things there, not in `grid`.

        Examples
        --------
        >>> (a, b, c), (d, e, f) = Motion(1, 2, 90).affine((8, 8), (100, 100))
        >>> [round(value, 6) + 0.0 for value in (a, b, c, d, e, f)]
        [0.0, -1.0, 9.0, 1.0, 0.0, 2.0]
        """
        stretch = size[0] * grid[1] / (size[1] * grid[0])  # height of a pixel over its width
        turn = radians(self.angle)
        a, b = cos(turn), -sin(turn) / stretch
        c, d = sin(turn) * stretch, cos(turn)
        y, x = grid[0] / 2, grid[1] / 2
        return (a, b, y + self.shift_y - a * y - b * x), (c, d, x + self.shift_x - c * y - d * x)


@dataclass(frozen=True)
class Alignment:
    """Outcome of aligning a picture.

    Attributes
    ----------
    motion : Motion or None
        None if it could not be aligned: it is judged as it is.
    quality : float
        Correlation with the reference where both overlap, 0 to 1; 0 if it could not be aligned.
    """

    motion: Motion | None
    quality: float


NOT_ALIGNED = Alignment(None, 0.0)
