"""Which run, model or entry is the newest: by numbers, since a wall clock may be set back.

`turn` is one more than the highest turn of its kind in the workspace at that time. Files of
versions that had no turns have 0: they are older than all with a turn, and among themselves in the
order of their times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar


class Ordered(Protocol):
    """What has a turn."""

    @property
    def turn(self) -> int:
        """Its place in the order; 0 if a version without turns wrote it."""


T = TypeVar("T", bound=Ordered)


def next_turn(items: Iterable[Ordered]) -> int:
    """Return the turn of what becomes the newest of its kind."""
    return max((item.turn for item in items), default=0) + 1


def in_order(items: Iterable[T], at: Callable[[T], str]) -> list[T]:
    """Return items with the newest last; `at` returns the time (ISO 8601, UTC) of one.

    Two fits that end at the same moment may get the same turn: then the times decide.
    """
    return sorted(items, key=lambda item: (item.turn, at(item)))
