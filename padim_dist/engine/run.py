"""Running tasks: a bounded window of them, progress from inside, errors in words."""

from __future__ import annotations

import errno
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from distributed import Client, KilledWorker, as_completed, get_worker

from padim_dist.errors import PadimDistError, RunError
from padim_dist.progress import Listener, Progress

_TOPIC = "padim-dist"
_TASKS_A_WORKER = 3
_SECONDS_BETWEEN_REPORTS = 0.5


class Job(Protocol):
    """What a task is given: small and picklable, never arrays."""

    @property
    def name(self) -> str:
        """Names the task, for people and for Dask."""


class Outcome(Protocol):
    """What a task returns: a receipt of less than a kilobyte."""

    @property
    def done(self) -> int:
        """Images (or bands) that are finished."""

    @property
    def failed(self) -> int:
        """Of those, how many could not be used."""


J = TypeVar("J", bound=Job)
O = TypeVar("O", bound=Outcome)  # noqa: E741


class Reporter:
    """Tells the driver how far this task is, at most twice a second."""

    def __init__(self) -> None:
        worker = get_worker()
        self._worker = worker
        self._key = worker.get_current_task()
        self._last = time.monotonic()

    def report(self, done: int, failed: int) -> None:
        """Report images done and failed so far in this task."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            self._worker.log_event(_TOPIC, [self._key, done, failed])


def run_tasks(
    client: Client,
    function: Callable[[J], O],
    jobs: Sequence[J],
    stage: str,
    total: int,
    listener: Listener,
) -> Iterator[tuple[J, O]]:
    """Map a function over jobs on the workers, in order of completion.

    Only a few tasks a worker are with the scheduler at any time, and none is held
    after it is finished, so neither driver nor scheduler grows with the archive.

    Parameters
    ----------
    client : Client
        Of the cluster.
    function : callable
        Pure in its effect: run twice, it does the same.
    jobs : sequence
        What to call it with.
    stage : str
        Named in progress and errors.
    total : int
        Images (or bands) of all jobs together.
    listener : callable
        Is told the progress.

    Yields
    ------
    (job, outcome)
    """
    finished: Counter[str] = Counter()
    running: dict[str, tuple[J, int, int]] = {}
    lock = threading.Lock()  # progress is heard in the client's own thread

    def tell() -> None:
        with lock:
            done = finished["done"] + sum(done for _, done, _ in running.values())
            failed = finished["failed"] + sum(failed for _, _, failed in running.values())
        listener(Progress(stage, total, min(done, total), failed))

    def hear(event: tuple[float, Any]) -> None:
        key, done, failed = event[1]
        with lock:
            known = key in running
            if known:
                running[key] = (running[key][0], done, failed)
        if known:
            tell()

    tell()
    client.subscribe_topic(_TOPIC, hear)
    waiting = iter(jobs)
    completed = as_completed()

    def submit_next() -> None:
        job = next(waiting, None)
        if job is not None:
            key = f"{function.__name__}-{uuid.uuid4().hex}"
            with lock:
                running[key] = (job, 0, 0)
            completed.add(client.submit(function, job, key=key, pure=False))

    try:
        for _ in range(_TASKS_A_WORKER * max(len(client.nthreads()), 1)):
            submit_next()
        for future in completed:
            job, _, _ = running[str(future.key)]
            outcome = _result(future, f"{stage}: {job.name}")
            future.release()
            with lock:
                del running[str(future.key)]
                finished["done"] += outcome.done
                finished["failed"] += outcome.failed
            tell()
            submit_next()
            yield job, outcome
    finally:
        client.unsubscribe_topic(_TOPIC)


def _result(future: Any, what: str) -> Any:
    try:
        return future.result()
    except PadimDistError:
        raise
    except KilledWorker as error:
        raise RunError(
            f"{what} killed {error.allowed_failures + 1} workers in a row, most likely for want of "
            "memory. Lower cluster.workers or model.batch and run the same command again: it "
            "resumes"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(
                f"{what}: no space left in the workspace ({error.filename or error}). Free some or "
                "move the workspace, and run the same command again: it resumes"
            ) from error
        raise RunError(f"{what}: {error}. Run the same command again: it resumes") from error
    except Exception as error:
        raise RunError(f"{what}: {type(error).__name__}: {error}") from error
