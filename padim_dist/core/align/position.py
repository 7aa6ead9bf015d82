"""Where the pictures of a camera lie against its reference, and whether the camera has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import median

from padim_dist.core.align.motion import Motion

TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations."""
_TO_ERROR = 1.2533
"""Standard error of a median, in deviations over the square root of the number."""
_ERRORS = 5.0
"""A camera has moved if its pictures lie this many standard errors from those of the model, and"""
_PIXELS, _DEGREES = 2.0, 1.0
"""at least so many pixels of the resized picture, or degrees."""


@dataclass(frozen=True)
class Position:
    """Medians of how pictures lie, and how much they differ.

    Attributes
    ----------
    images, aligned : int
        Pictures, and those of them that could be aligned; the rest is about these.
    shift_y, shift_x, angle : float
        Medians; see `Motion`.
    spread, turns : float
        Robust standard deviations of the shifts (the greater one of both axes) and of the angles.
    """

    images: int
    aligned: int
    shift_y: float
    shift_x: float
    angle: float
    spread: float
    turns: float

    @classmethod
    def of(cls, motions: Sequence[Motion | None]) -> Position:
        """Return the position of pictures; None stands for one that could not be aligned.

        Examples
        --------
        >>> Position.of([Motion(1, 0, 0), Motion(2, 0, 0), None, Motion(9, 0, 1)])
        Position(images=4, aligned=3, shift_y=2, shift_x=0, angle=0, spread=1.4826, turns=0.0)
        """
        known = [motion for motion in motions if motion]
        axes = [[getattr(one, name) for one in known] or [0.0] for name in _NAMES]
        y, x, angle = middles = [median(axis) for axis in axes]
        spreads = [
            TO_DEVIATION * median(abs(value - middle) for value in axis)
            for axis, middle in zip(axes, middles, strict=True)
        ]
        return cls(len(motions), len(known), y, x, angle, max(spreads[:2]), spreads[2])

    def moved_from(self, usual: Position) -> Motion | None:
        """Return how far pictures lie from those of the model; None: no further than usual.

        Examples
        --------
        >>> usual = Position(100, 100, 0.0, 0.0, 0.0, 1.0, 0.1)
        >>> Position(40, 40, 9.0, 0.0, 0.1, 1.0, 0.1).moved_from(usual)
        Motion(shift_y=9.0, shift_x=0.0, angle=0.1)
        >>> Position(40, 40, 0.5, 0.0, 0.1, 1.0, 0.1).moved_from(usual)
        """
        if not self.aligned or not usual.aligned:
            return None
        moved = Motion(*(getattr(self, name) - getattr(usual, name) for name in _NAMES))
        shift = hypot(moved.shift_y, moved.shift_x)
        has_shifted = shift > max(_PIXELS, _ERRORS * self._error(usual, "spread"))
        has_turned = abs(moved.angle) > max(_DEGREES, _ERRORS * self._error(usual, "turns"))
        return moved if has_shifted or has_turned else None

    def _error(self, other: Position, name: str) -> float:
        """Return the standard error of the difference of two medians."""
        return _TO_ERROR * hypot(
            getattr(self, name) / sqrt(self.aligned), getattr(other, name) / sqrt(other.aligned)
        )


_NAMES = ("shift_y", "shift_x", "angle")
