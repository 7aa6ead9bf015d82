"""Events of a run as data classes; progress bars and logs listen to them.

The driver sends events in its main thread, in the order in which it receives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from padim_dist.redaction import redacted


@dataclass(frozen=True)
class Progress:
    """Progress of a stage.

    Attributes
    ----------
    stage : str
        Name of the stage.
    total, done : int
        Images (or bands) of the stage, and those finished.
    failed : int
        Finished images that cannot be used.
    waiting, running : int
        Shards, parts or bands that wait, and that a worker has.
    """

    stage: str
    total: int
    done: int
    failed: int = 0
    waiting: int = 0
    running: int = 0


@dataclass(frozen=True)
class TaskStarted:
    """A worker started a shard, part or band.

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
        Images (or bands) in it, and those that cannot be used.
    seconds : float
        Seconds since its last start; 0 where nothing was left to do.
    """

    stage: str
    task: str
    images: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class TaskRetried:
    """A shard, part or band is retried, or run a second time elsewhere.

    Attributes
    ----------
    stage, task, reason : str
        The stage; the shard, part or band; why.
    """

    stage: str
    task: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", redacted(self.reason))


@dataclass(frozen=True)
class TaskFailed:
    """A shard, part or band failed: the run ends.

    Attributes
    ----------
    stage, task, reason : str
        The stage; the shard, part or band; why.
    """

    stage: str
    task: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", redacted(self.reason))


Event = Progress | TaskStarted | TaskFinished | TaskRetried | TaskFailed
Listener = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Ignore an event."""


def tell_all(*listeners: Listener) -> Listener:
    """Return a listener that calls others in order."""

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen
