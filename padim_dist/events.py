"""What happens in a run, as small data classes; progress bars and logs subscribe to it.

Events are told by the driver, in its main thread, in the order in which it hears of them.
"""

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
    waiting, running : int
        Shards, parts or bands that nobody has begun, and that a worker has.
    """

    stage: str
    total: int
    done: int
    failed: int = 0
    waiting: int = 0
    running: int = 0


@dataclass(frozen=True)
class TaskStarted:
    """A worker began with a shard, a part or a band.

    Attributes
    ----------
    stage, task : str
        The stage, and the shard, part or band.
    worker : str
        Address of the worker.
    """

    stage: str
    task: str
    worker: str


@dataclass(frozen=True)
class TaskFinished:
    """A shard, part or band has its receipt.

    Attributes
    ----------
    stage, task : str
        The stage, and the shard, part or band.
    images, failed : int
        Images (or bands) in it, and how many of them could not be used.
    seconds : float
        From its last start; 0 where nothing was left to do.
    """

    stage: str
    task: str
    images: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class TaskRetried:
    """A shard, part or band is done again, or a second time elsewhere.

    Attributes
    ----------
    stage, task, reason : str
        The stage; the shard, part or band; why.
    """

    stage: str
    task: str
    reason: str


@dataclass(frozen=True)
class TaskFailed:
    """A shard, part or band could not be done: the run ends.

    Attributes
    ----------
    stage, task, reason : str
        The stage; the shard, part or band; why.
    """

    stage: str
    task: str
    reason: str


Event = Progress | TaskStarted | TaskFinished | TaskRetried | TaskFailed
Listener = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Listen to nothing."""


def tell_all(*listeners: Listener) -> Listener:
    """A listener that tells others, in order."""

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen
