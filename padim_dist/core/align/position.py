"""Where the pictures of a camera lie against its reference, and whether the camera has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, cos, degrees, hypot, radians, sin, sqrt
from statistics import median

from padim_dist.core.align.motion import Motion

TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations."""
_TO_ERROR = 1.2533
"""Standard error of a median, in deviations over the square root of the number."""
_ERRORS = 5.0
"""A camera has moved if its pictures lie this many standard errors from those of the model, and"""
_PIXELS, _DEGREES = 2.0, 1.0
"""at least so many pixels of the resized picture, or degrees, and"""
_DEVIATIONS = 2.0
"""so many deviations of whole nights: of what pictures of the model differ more than theirs."""
_LOST = 0.2
"""Pictures cannot be aligned any more if five standard errors, and this share of them, more than
those of the model could not."""


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

        Angles are those of a circle: the middle of 179 and -179 degrees is 180.

        Examples
        --------
        >>> Position.of([Motion(1, 0, 0), Motion(2, 0, 0), None, Motion(9, 0, 1)])
        Position(images=4, aligned=3, shift_y=2, shift_x=0, angle=0, spread=1.4826, turns=0.0)
        """
        known = [motion for motion in motions if motion]
        axes = [[getattr(one, name) for one in known] or [0.0] for name in _NAMES]
        start = _circular_middle(axes[2])
        # Small angles stay what they are: rounding would move them.
        axes[2] = [v if abs(v - start) <= 180 else start + _wrapped(v - start) for v in axes[2]]
        y, x, angle = middles = [median(axis) for axis in axes]
        spreads = [
            TO_DEVIATION * median(abs(value - middle) for value in axis)
            for axis, middle in zip(axes, middles, strict=True)
        ]
        angle = angle if abs(angle) <= 180 else _wrapped(angle)
        return cls(len(motions), len(known), y, x, angle, max(spreads[:2]), spreads[2])

    def moved_from(self, usual: Position) -> Motion | None:
        """Return how far pictures lie from those of the model; None: no further than usual.

        A few pictures may lie alike by chance, so they are taken to differ as much as those of the
        model at least. If they lie more alike than those, nights differ: then they have moved only
        if they lie further off than nights do.

        Examples
        --------
        >>> usual = Position(100, 100, 0.0, 0.0, 0.0, 1.0, 0.1)
        >>> Position(40, 40, 9.0, 0.0, 0.1, 1.0, 0.1).moved_from(usual)
        Motion(shift_y=9.0, shift_x=0.0, angle=0.1)
        >>> Position(40, 40, 0.5, 0.0, 0.1, 1.0, 0.1).moved_from(usual)
        """
        if not self.aligned or not usual.aligned:
            return None
        y, x = self.shift_y - usual.shift_y, self.shift_x - usual.shift_x
        moved = Motion(y, x, _wrapped(self.angle - usual.angle))
        has_shifted = hypot(y, x) > max(_PIXELS, self._usual_distance(usual, "spread"))
        has_turned = abs(moved.angle) > max(_DEGREES, self._usual_distance(usual, "turns"))
        return moved if has_shifted or has_turned else None

    def lost_from(self, usual: Position) -> bool:
        """Return whether far more pictures than in the model could not be aligned.

        Examples
        --------
        >>> usual = Position(100, 95, 0.0, 0.0, 0.0, 1.0, 0.1)
        >>> [Position(40, n, 0.0, 0.0, 0.0, 1.0, 0.1).lost_from(usual) for n in (36, 2)]
        [False, True]
        """
        lost, share = self.images - self.aligned, 1 - usual.aligned / max(usual.images, 1)
        expected = share * self.images
        error = max(sqrt(expected * (1 - share)), 0.5)
        return lost > expected + max(_ERRORS * error, _LOST * self.images)

    def _usual_distance(self, usual: Position, name: str) -> float:
        """Return how far medians may be apart by chance."""
        own, others = getattr(self, name), getattr(usual, name)
        error = _TO_ERROR * hypot(
            max(own, others) / sqrt(self.aligned), others / sqrt(usual.aligned)
        )
        of_nights = sqrt(max(others**2 - own**2, 0.0))
        return max(_ERRORS * error, _DEVIATIONS * of_nights)


_NAMES = ("shift_y", "shift_x", "angle")


def _circular_middle(angles: Sequence[float]) -> float:
    """Return the direction of the mean of unit vectors, in degrees."""
    sine, cosine = (sum(turn(radians(angle)) for angle in angles) for turn in (sin, cos))
    return degrees(atan2(sine, cosine))


def _wrapped(angle: float) -> float:
    """Return an angle between -180 and 180 degrees."""
    return angle if -180 <= angle < 180 else (angle + 180) % 360 - 180
