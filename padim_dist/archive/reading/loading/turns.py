"""Turns: images that a thread fetches or decodes one after the other. How many that are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from statistics import median

from padim_dist.archive.reading.film_loads import FilmLoad
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import Call, Crew
from padim_dist.archive.rows import ImageRow

_TURN = 0.005
"""Seconds that a turn of a thread may take if it has more than one image."""
_RECENT, _LEAST = 16, 4
"""Turns by which the next ones are measured, and the least number of them."""


def images_in_a_turn(reads: Sequence[float], decodes: Sequence[float], most: int) -> int:
    """Return how many images a thread reads, and then one decodes, in one turn.

    To hand an image from thread to thread takes 0.03 to 0.1 ms, as long as to read a small file. So
    several are handed on together if they take a few milliseconds. Where one takes longer, e.g.
    since the store answers late, each has a turn of its own, and many of them go on at once.

    Parameters
    ----------
    reads, decodes : sequence of float
        Seconds that the last images took.
    most : int
        The most images in a turn.

    Examples
    --------
    >>> images_in_a_turn([0.0002] * 9, [0.001] * 9, 8), images_in_a_turn([0.02] * 9, [0.001] * 9, 8)
    (5, 1)
    """
    if min(len(reads), len(decodes)) < _LEAST:
        return 1
    return max(1, min(most, int(_TURN / max(median(reads), median(decodes), 1e-9))))


@dataclass(eq=False)
class Pace:
    """Seconds that the last images of an archive took in this process."""

    reads: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    decodes: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))


_paces: dict[str, Pace] = {}


def pace_of(archive: str) -> Pace:
    """Return the pace of an archive; one of its own if it has no name."""
    return _paces.setdefault(archive, Pace()) if archive else Pace()


@dataclass(eq=False, slots=True)
class Pending:
    """An image that is being loaded, and its outcome until that is taken.

    Until it is decoded it holds its bytes in `data`, None if they are not fetched yet; by the
    manifest they have this `size`. It knows no turn: turns know their images, and a cycle would
    keep pixels until Python looks for cycles.
    """

    row: ImageRow
    size: int = 0
    outcome: LoadedImage | BaseException | None = None
    data: bytes | BaseException | None = None
    film: FilmLoad | None = None
    frame: Future[LoadedImage] | None = None

    @property
    def is_done(self) -> bool:
        """Whether it is loaded, or cannot be."""
        if self.frame:
            return self.frame.done()
        return self.outcome is not None

    def is_encoded(self) -> bool:
        """Return whether it holds the bytes of the file."""
        if not self.is_done or self.frame:
            return not self.is_done
        return isinstance(self.outcome, LoadedImage) and self.outcome.encoded is not None


@dataclass(eq=False)
class Turn:
    """Images that a thread decodes one after the other, once all of them are fetched.

    `at` is the place of the first one that is not decoded, and `lacking` the number of those
    that are not fetched. A thread of `crew` makes the call; if it was given up, it finds another
    one in `call`.
    """

    items: list[Pending]
    lacking: int
    crew: Crew
    at: int = 0
    fetched: threading.Event = field(default_factory=threading.Event)
    call: Call[None] | None = None


@dataclass(eq=False)
class Fetch:
    """Requests that a thread makes one after the other; `at` is the place of the present one."""

    requests: list[tuple[Request, list[Pending]]]
    is_second: bool = False
    at: int = 0
    call: Call[None] | None = None
