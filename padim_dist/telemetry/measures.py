"""What is counted for Prometheus, by workers and by the driver of a run.

A Dask worker serves what it counts at ``/metrics`` of its HTTP server, beside Dask's own
figures. A driver's, and those of the workers that it starts, are served by
`padim_dist.telemetry.server`.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from padim_dist.events import Event, Progress, TaskFailed, TaskFinished, TaskRetried

Step = Literal["read", "decode", "embed", "measure", "write"]

_images = Counter(
    "padim_dist_images",
    "Images that workers are done with, by what became of them; those done again count again.",
    ["stage", "status"],
)
_bytes = Counter("padim_dist_bytes_read", "Bytes of images that workers got from storage.")
_request_retries = Counter(
    "padim_dist_request_retries", "Requests for images that workers sent once more."
)
_seconds = Counter(
    "padim_dist_stage_seconds",
    "Seconds of workers by what they were at; reading and decoding go on beside the others.",
    ["stage"],
)

# Of a run that is under way, so they end with its process.
_run_images = Gauge(
    "padim_dist_run_images",
    "Images (or bands) of a run's stage.",
    ["stage", "state"],
    multiprocess_mode="livemostrecent",
)
_tasks = Gauge(
    "padim_dist_tasks",
    "Shards, parts or bands that wait, or that a worker has.",
    ["stage", "state"],
    multiprocess_mode="livemostrecent",
)
_last_event = Gauge(
    "padim_dist_last_event_timestamp_seconds",
    "When the run last showed a sign of life.",
    multiprocess_mode="livemostrecent",
)
_finished = Counter("padim_dist_tasks_finished", "Shards, parts or bands done.", ["stage"])
_retried = Counter("padim_dist_tasks_retried", "Shards, parts or bands done again.", ["stage"])
_failed = Counter("padim_dist_tasks_failed", "Shards, parts or bands that ended a run.", ["stage"])
_task_seconds = Histogram(
    "padim_dist_task_seconds",
    "Seconds that a shard, part or band took.",
    ["stage"],
    buckets=(0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)


def count_images(stage: str, statuses: Iterable[str]) -> None:
    """Count images that a worker is done with.

    Parameters
    ----------
    stage : str
        ``"fit"`` or ``"score"``.
    statuses : iterable of str
        Of each image: ``"scored"`` or ``"fitted"``, otherwise why it could not be used.
    """
    for status, images in Tally(statuses).items():
        _images.labels(stage, status).inc(images)


def count_read(size: int) -> None:
    """Count bytes that came from storage."""
    _bytes.inc(size)


def count_request_retry() -> None:
    """Count a request that is sent once more."""
    _request_retries.inc()


@contextmanager
def timed(step: Step) -> Iterator[None]:
    """Count the seconds of a block.

    On a GPU the block that waits for the result is charged with the work: ``measure``,
    since embedding only hands it in.
    """
    began = time.perf_counter()
    try:
        yield
    finally:
        _seconds.labels(step).inc(time.perf_counter() - began)


def observe(event: Event) -> None:
    """Subscriber that counts what happens in a run."""
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
                    counter.labels(stage)  # from zero on, else the first one were no increase
        case TaskFinished(seconds=seconds):
            _finished.labels(stage).inc()
            if seconds:
                _task_seconds.labels(stage).observe(seconds)
        case TaskRetried():
            _retried.labels(stage).inc()
        case TaskFailed():
            _failed.labels(stage).inc()
