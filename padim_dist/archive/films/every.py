"""Which frames of a film become rows: ``archive.video.every``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

EVERY = "1s"
"""The default of ``archive.video.every``."""
_EVERY = re.compile(r"(\d+(?:\.\d+)?)\s*(s|frames?)")


@dataclass(frozen=True)
class ShownFrame:
    """A frame of a film.

    Attributes
    ----------
    number : int
        Its place in the film, in the order of time, from 0.
    time : int
        In milliseconds, as a decoder says.
    start, length : int
        Bytes of pictures: those of the frames before it, and its own.
    """

    number: int
    time: int
    start: int
    length: int


@dataclass(frozen=True)
class Every:
    """A rule that chooses frames: one in some seconds, or one in some frames.

    Attributes
    ----------
    milliseconds : Fraction or None
        Time between two frames; None if frames are counted.
    frames : int
        Number of frames from one to the next.
    """

    milliseconds: Fraction | None
    frames: int = 1

    def __str__(self) -> str:
        if self.milliseconds is None:
            return "1 frame" if self.frames == 1 else f"{self.frames} frames"
        seconds = Decimal(self.milliseconds.numerator) / self.milliseconds.denominator / 1000
        return f"{seconds.normalize():f}s"

    @classmethod
    def parse(cls, text: str) -> Every:
        """Read a rule.

        Raises
        ------
        ValueError
            If it is none, or it is zero.

        Examples
        --------
        >>> Every.parse("0.5s"), Every.parse("1 frame")
        (Every(milliseconds=Fraction(500, 1), frames=1), Every(milliseconds=None, frames=1))
        >>> str(Every.parse("0.50 s"))
        '0.5s'
        """
        match = _EVERY.fullmatch(text.strip())
        if match is None or not Fraction(match[1]):
            raise ValueError("is neither a time nor a number of frames; write e.g. 1s or 1 frame")
        if match[2] == "s":
            return cls(1000 * Fraction(match[1]))
        if "." in match[1]:
            raise ValueError("is no whole number of frames; write e.g. 1 frame or 25 frames")
        return cls(None, int(match[1]))

    def choose(self, frames: Iterable[ShownFrame]) -> Iterator[ShownFrame]:
        """Yield the chosen frames of a film, in order; each also has the bytes of those left out.

        Of a time it is the first frame at or after every multiple of it, counted from the first
        frame of the film. A film with longer gaps than that gives every frame once.
        """
        after: Fraction | int | None = None
        first = passed = 0
        for frame in frames:
            place = frame.number if self.milliseconds is None else frame.time
            step = self.milliseconds or self.frames
            if after is None:
                first = after = place
            if place < after:
                passed += frame.length
                continue
            yield replace(frame, start=frame.start - passed, length=frame.length + passed)
            after = first + ((place - first) // step + 1) * step
            passed = 0

    def is_finer_than(self, shortest: int | None) -> bool:
        """Return whether it asks for more frames than there are, given the shortest gap in ms."""
        return shortest is not None and (self.milliseconds or shortest) < shortest
