"""Running tasks: a bounded window of them, progress from inside, errors in words."""

from __future__ import annotations

import errno
import time
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
    """Tells the driver how far a task is, at most twice a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = time.monotonic()

    def report(self, done: int, failed: int) -> None:
        """Report images done and failed so far in this task."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            get_worker().log_event(_TOPIC, [self._name, done, failed])


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
    running: dict[str, tuple[int, int]] = {}

    def tell() -> None:
        done = finished["done"] + sum(done for done, _ in running.values())
        failed = finished["failed"] + sum(failed for _, failed in running.values())
        listener(Progress(stage, total, min(done, total), failed))

    def hear(event: tuple[float, Any]) -> None:
        name, done, failed = event[1]
        if name in running:
            running[name] = (done, failed)
            tell()

    tell()
    client.subscribe_topic(_TOPIC, hear)
    by_key: dict[str, J] = {}
    waiting = iter(jobs)
    completed = as_completed()

    def submit_next() -> None:
        job = next(waiting, None)
        if job is not None:
            future = client.submit(function, job, key=f"{job.name}-{id(jobs):x}", pure=False)
            by_key[str(future.key)] = job
            running[job.name] = (0, 0)
            completed.add(future)

    try:
        for _ in range(_TASKS_A_WORKER * max(len(client.nthreads()), 1)):
            submit_next()
        for future in completed:
            job = by_key.pop(str(future.key))
            outcome = _result(future, f"{stage}: {job.name}")
            future.release()
            running.pop(job.name, None)
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
