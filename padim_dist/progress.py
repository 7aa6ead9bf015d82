"""How far a stage is: what the engine tells and a progress bar draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a stage.

    Attributes
    ----------
    stage : str
        What is being done, for people.
    total, done : int
        Images (or bands) in all, and finished so far.
    failed : int
        Of those done, how many could not be used.
    """

    stage: str
    total: int
    done: int
    failed: int = 0


Listener = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Listen to nothing."""
