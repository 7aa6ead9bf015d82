"""Prometheus metrics of workers and of the driver of a run.

A Dask worker serves its metrics at ``/metrics`` of its HTTP server, next to those of Dask.
`padim_dist.telemetry.server` serves the metrics of a driver and of the workers that it starts.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from padim_dist.events import Event, Progress, TaskFailed, TaskFinished, TaskRetried

Step = Literal["read", "decode", "embed", "measure", "write"]

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

# State of a running run: these end with its process.
_gauge = partial(Gauge, multiprocess_mode="livemostrecent")
_run_images = _gauge(
    "padim_dist_run_images", "Images (or bands) of a stage of the run.", ["stage", "state"]
)
_tasks = _gauge(
    "padim_dist_tasks", "Shards, parts or bands that are waiting or running.", ["stage", "state"]
)
_last_event = _gauge(
    "padim_dist_last_event_timestamp_seconds", "Time of the last event of the run."
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


@contextmanager
def timed(step: Step) -> Iterator[None]:
    """Count the seconds of a block.

    On a GPU the work counts for ``measure``, which waits for the result: ``embed`` only
    submits it.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        _seconds.labels(step).inc(time.perf_counter() - began)


def observe(event: Event) -> None:
    """Update the metrics by an event; a `Listener`."""
    _last_event.set_to_current_time()
    stage = event.stage
    match event:
        case Progress():
            for state in ("total", "done", "failed"):
                _run_images.labels(stage, state).set(getattr(event, state))
            for state in ("waiting", "running"):
                _tasks.labels(stage, state).set(getattr(event, state))
            if event.waiting or event.running:
                for counter in (_finished, _retried, _failed):
                    counter.labels(stage)  # from zero on, so that the first one is an increase
        case TaskFinished(seconds=seconds):
            _finished.labels(stage).inc()
            if seconds:
                _task_seconds.labels(stage).observe(seconds)
        case TaskRetried():
            _retried.labels(stage).inc()
        case TaskFailed():
            _failed.labels(stage).inc()
