"""Tasks on a worker: jobs, outcomes, set-up, and reports to the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from distributed import get_worker

from padim_dist.archive.reading.threads import given_up
from padim_dist.engine.source import ShardSource
from padim_dist.engine.worker import set_up
from padim_dist.store.workspace import Workspace

TOPIC = "padim-dist"
"""Topic of the events that workers send to the driver."""
ENDED = -1
"""Number of images in the event that a task has ended; it has the threads that never ended."""
_SECONDS_BETWEEN_REPORTS = 0.5

Report = Callable[[int, int], None]
"""Receives the images done and failed so far in a task."""


class Outcome(Protocol):
    """What a task returns: a receipt of less than a kilobyte."""

    @property
    def done(self) -> int:
        """Images (or bands) that are finished."""

    @property
    def failed(self) -> int:
        """Images among them that could not be used."""


Found = TypeVar("Found", bound=Outcome, covariant=True)


class Job(Protocol[Found]):
    """What a task receives: small and picklable, never arrays."""

    @property
    def name(self) -> str:
        """Name of the task, for messages."""

    @property
    def size(self) -> int:
        """Images (or bands) in it."""

    @property
    def sources(self) -> Sequence[ShardSource]:
        """Shards that this job reads."""

    def find(self) -> Found | None:
        """Return the outcome if the job is done already, else None."""


@dataclass(frozen=True)
class Done:
    """Outcome of a job that reads no image."""

    done: int = 1
    failed: int = 0


class WithoutImages:
    """A job that reads no image."""

    size = 1
    sources: Sequence[ShardSource] = ()


@dataclass(frozen=True)
class GroupJob(WithoutImages):
    """A job for a group of a model; it is done when its receipt exists.

    A receipt is that of one `state` of the model's parts: a task that a killed fit left on the
    cluster may still write its receipt when a fit of another state is at work.
    """

    workspace: Workspace
    model_id: str
    group: str
    state: str

    @property
    def receipt(self) -> str:
        """Path of the receipt."""
        raise NotImplementedError

    def find(self) -> Done | None:
        """Return `Done` if the receipt exists, else None."""
        return Done() if self.workspace.folder.exists(self.receipt) else None


class _Reporter:
    """Reports a task's start, progress (at most twice a second) and end to the driver."""

    def __init__(self) -> None:
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._last = 0.0
        self.send(0, 0)

    def __call__(self, done: int, failed: int) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_REPORTS:
            self.send(done, failed)

    def send(self, done: int, failed: int) -> None:
        self._last = time.monotonic()
        self._worker.log_event(TOPIC, [self._key, self._worker.address, done, failed])


def perform(task: Callable[[Any, Report], Any], job: Any, threads: int) -> Any:
    """Do a job on a worker, unless it is done already; return its outcome.

    The effect of `task` is the same if it is done twice; `threads` is for the trunk and products.
    """
    if (found := job.find()) is not None:
        return found
    report = _Reporter()
    try:
        set_up(threads)
        return task(job, report)
    finally:
        report.send(ENDED, given_up())
