"""Prometheus metrics of workers and of the driver of a run.

A Dask worker serves its metrics at ``/metrics`` of its HTTP server, next to those of Dask.
`padim_dist.telemetry.server` serves the metrics of a driver and of the workers that it starts.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from padim_dist.core.status import FITTED, NO_MODEL, SCORED, STATUSES
from padim_dist.events import Event, Progress, TaskFailed, TaskFinished, TaskRetried

Step = Literal["read", "decode", "embed", "measure", "write"]
_STEPS: tuple[Step, ...] = get_args(Step)
_UNUSABLE = [status for status in STATUSES if status not in (SCORED, NO_MODEL)]
_STATUSES = {"fit": [FITTED, *_UNUSABLE], "score": STATUSES}
_STAGES = (
    "fit: embed",
    "fit: factorise",
    "fit: leave out",
    "fit: calibrate",
    "score",
    "score: drift",
)

_images = Counter(
    "padim_dist_images",
    "Images finished by workers, by status; a retried image counts again.",
    ["stage", "status"],
)
_bytes = Counter("padim_dist_bytes_read", "Bytes of images that workers read from storage.")
_request_retries = Counter("padim_dist_request_retries", "Retried requests for images.")
_seconds = Counter(
    "padim_dist_stage_seconds",
    "Seconds of workers by step; read and decode overlap the other steps.",
    ["stage"],
)
_steps: dict[Step, Counter] = {}

# State of a running run, by process (label `pid`): they end with it.
_gauge = partial(Gauge, multiprocess_mode="liveall")
_run_images = _gauge(
    "padim_dist_run_images", "Images (or bands) of a stage of the run.", ["stage", "state"]
)
_tasks = _gauge(
    "padim_dist_tasks",
    "Shards, parts or bands that wait, or that a living worker runs.",
    ["stage", "state"],
)
_last_event = _gauge(
    "padim_dist_last_event_timestamp_seconds",
    "Time of the last event that was news; 0 while no run is at work.",
)
_finished = Counter("padim_dist_tasks_finished", "Finished shards, parts or bands.", ["stage"])
_retried = Counter("padim_dist_tasks_retried", "Retried shards, parts or bands.", ["stage"])
_failed = Counter("padim_dist_tasks_failed", "Failed shards, parts or bands.", ["stage"])
_task_seconds = Histogram(
    "padim_dist_task_seconds",
    "Seconds for a shard, part or band.",
    ["stage"],
    buckets=(0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)


def _begin_at_zero() -> None:
    """Make the series of all usual labels: the first event of a series is then an increase."""
    for stage, statuses in _STATUSES.items():
        for status in statuses:
            _images.labels(stage, status)
    for step in _STEPS:
        _steps[step] = _seconds.labels(step)
    for stage in _STAGES:
        for metric in (_finished, _retried, _failed, _task_seconds):
            metric.labels(stage)


_begin_at_zero()


def count_images(stage: str, statuses: Iterable[str]) -> None:
    """Count images that a worker has finished.

    Parameters
    ----------
    stage : str
        ``"fit"`` or ``"score"``.
    statuses : iterable of str
        Status of each image: ``"scored"``, ``"fitted"``, or why it cannot be used.
    """
    for status, images in Tally(statuses).items():
        _images.labels(stage, status).inc(images)


def count_read(size: int) -> None:
    """Count bytes read from storage."""
    _bytes.inc(size)


def count_request_retry() -> None:
    """Count a retried request."""
    _request_retries.inc()


class timed:  # noqa: N801  (used as a function)
    """Count the seconds of a block: ``with timed("read"):``.

    On a GPU the work counts for ``measure``, which waits for the result: ``embed`` only
    submits it. A class, since two blocks of each image are timed: a generator takes twice as long.
    """

    __slots__ = ("_began", "_seconds")

    def __init__(self, step: Step) -> None:
        self._seconds = _steps[step]

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds.inc(time.perf_counter() - self._began)


@dataclass
class _Run:
    """What is known of the run of this process."""

    latest: Event | None = None
    stages: set[str] = field(default_factory=set)


_run = _Run()


@contextmanager
def at_work() -> Iterator[None]:
    """Watch a block for stalls: from its begin to its end it should have events."""
    _last_event.set_to_current_time()
    try:
        yield
    finally:
        _last_event.set(0)
        for stage in _run.stages:
            for state in ("waiting", "running"):
                _tasks.labels(stage, state).set(0)


def observe(event: Event) -> None:
    """Update the metrics by an event; a `Listener`.

    A `Progress` that repeats the one before is a sign of life of the driver, and no news.
    """
    if event != _run.latest:
        _run.latest = event
        _last_event.set_to_current_time()
    stage = event.stage
    match event:
        case Progress():
            _run.stages.add(stage)
            for state in ("total", "done", "failed"):
                _run_images.labels(stage, state).set(getattr(event, state))
            for state in ("waiting", "running"):
                _tasks.labels(stage, state).set(getattr(event, state))
        case TaskFinished(seconds=seconds):
            _finished.labels(stage).inc()
            if seconds:
                _task_seconds.labels(stage).observe(seconds)
        case TaskRetried():
            _retried.labels(stage).inc()
        case TaskFailed():
            _failed.labels(stage).inc()
