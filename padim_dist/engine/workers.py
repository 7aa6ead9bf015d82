"""Running tasks: a bounded window of them, whatever becomes of the workers."""

from __future__ import annotations

import errno
import logging
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from distributed import Client, Future, KilledWorker, get_worker

from padim_dist.engine.examine import Examination, examine
from padim_dist.engine.policy import Running, is_suspect, overdue, stragglers, window
from padim_dist.errors import PadimDistError, RunError
from padim_dist.events import (
    Listener,
    Progress,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)

logger = logging.getLogger("padim_dist")
_TOPIC = "padim-dist"
_SECONDS_BETWEEN_REPORTS = 0.5
_TICK = 1.0
_MOST_EXAMINATIONS = 2


class Job(Protocol):
    """What a task is given: small and picklable, never arrays."""

    @property
    def name(self) -> str:
        """Names the task, for people."""

    @property
    def size(self) -> int:
        """Images (or bands) in it."""

    @property
    def examinations(self) -> Sequence[Examination]:
        """Where to look for the image that kills its worker."""


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
    """Tells the driver that a task has begun, and how far it is, at most twice a second."""

    def __init__(self) -> None:
        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._send(0, 0)

    def report(self, done: int, failed: int) -> None:
        """Report images done and failed so far in this task."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._send(done, failed)

    def _send(self, done: int, failed: int) -> None:
        self._last = time.monotonic()
        self._worker.log_event(_TOPIC, [self._key, self._worker.address, done, failed])


@dataclass
class _Attempt:
    """A job that is with the scheduler; its second copy is another attempt."""

    future: Future[Any]
    place: int
    given: float
    worker: str | None = None
    began: float = 0.0
    starts: int = 0
    done: int = 0
    failed: int = 0


@dataclass
class _Pass(Generic[J, O]):
    """The state of `run_tasks`."""

    client: Client
    function: Callable[[J], O]
    jobs: Sequence[J]
    stage: str
    total: int
    listener: Listener
    most_workers: int | None
    inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    waiting: deque[int] = field(default_factory=deque)
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    examined: Counter[int] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)
    workers: list[str] = field(default_factory=list)
    looked: float = -1e9

    def run(self) -> Iterator[tuple[J, O]]:
        """Give tasks out and take their outcomes until all are done."""
        self.waiting.extend(range(len(self.jobs)))
        self._tell_progress()
        self.client.subscribe_topic(_TOPIC, lambda event: self.inbox.put(event[1]))
        try:
            while self.waiting or self.attempts:
                self._look_around()
                try:
                    message = self.inbox.get(timeout=_TICK)
                except queue.Empty:
                    continue
                if not isinstance(message, Future):
                    self._hear(*message)
                elif (attempt := self.attempts.pop(str(message.key), None)) is not None:
                    yield from self._conclude(attempt)
        finally:
            self.client.unsubscribe_topic(_TOPIC)
            for attempt in self.attempts.values():
                attempt.future.release()

    def _look_around(self) -> None:
        """See who is there, fill the window, and double what straggles."""
        if time.monotonic() - self.looked >= _TICK:
            if self.client.status == "closed":
                raise RunError(
                    f"{self.stage}: the connection to the Dask scheduler is lost. Run the same "
                    "command again: it resumes"
                )
            workers = list(self.client.nthreads())
            if self.workers and not workers:
                logger.warning("%s: the cluster has no worker; waiting for one", self.stage)
            self.workers = workers
            self.looked = time.monotonic()
            if not self.waiting:
                self._double_stragglers()
                self._pass_on_overdue()
            self._tell_progress()  # a sign of life, for whoever listens
        room = window(len(self.workers), self.most_workers) - len(self.attempts)
        for _ in range(min(room, len(self.waiting))):
            self._submit(self.waiting.popleft())

    def _double_stragglers(self) -> None:
        busy = [attempt for attempt in self.attempts.values() if attempt.worker]
        copies = Counter(attempt.place for attempt in self.attempts.values())
        now = time.monotonic()
        running = [Running(self.jobs[a.place].size, now - a.began, copies[a.place]) for a in busy]
        idle = len(self.workers) - len(self.attempts)
        for late in stragglers(running, self.rates, idle):
            slow = busy[late]
            others = [worker for worker in self.workers if worker != slow.worker]
            if others:
                self._submit(slow.place, others)
                reason = f"straggles on {slow.worker}: done a second time elsewhere"
                self.listener(TaskRetried(self.stage, self.jobs[slow.place].name, reason))

    def _pass_on_overdue(self) -> None:
        """Give what a worker does not begin, as something holds it up, to another one as well."""
        copies = Counter(attempt.place for attempt in self.attempts.values())
        unbegun = [a for a in self.attempts.values() if not a.worker and copies[a.place] == 1]
        idle = len(self.workers) - sum(a.worker is not None for a in self.attempts.values())
        now = time.monotonic()
        late = overdue([now - attempt.given for attempt in unbegun], idle)
        if not late:
            return
        holders = {key: worker for worker, keys in self.client.processing().items() for key in keys}
        for attempt in (unbegun[place] for place in late):
            holder = holders.get(str(attempt.future.key))
            others = [worker for worker in self.workers if worker != holder]
            if holder and others:
                self._submit(attempt.place, others)
                name = self.jobs[attempt.place].name
                reason = f"is not begun by {holder}, which is held up: given to another worker"
                self.listener(TaskRetried(self.stage, name, reason))

    def _submit(self, place: int, workers: list[str] | None = None) -> None:
        future = self.client.submit(
            self.function,
            self.jobs[place],
            key=f"{self.function.__name__}-{uuid.uuid4().hex}",
            pure=False,
            workers=workers,
            allow_other_workers=workers is not None,
        )
        self.attempts[str(future.key)] = _Attempt(future, place, time.monotonic())
        future.add_done_callback(self.inbox.put)

    def _hear(self, key: str, worker: str, done: int, failed: int) -> None:
        attempt = self.attempts.get(key)
        if attempt is None:
            return
        job = self.jobs[attempt.place]
        attempt.done, attempt.failed = done, failed
        if done == 0:  # a start is told before any image is done
            if attempt.starts:
                self.listener(
                    TaskRetried(self.stage, job.name, f"its worker {attempt.worker} died")
                )
            attempt.starts += 1
            attempt.worker, attempt.began = worker, time.monotonic()
            self.listener(TaskStarted(self.stage, job.name, worker))
        self._tell_progress()

    def _conclude(self, attempt: _Attempt) -> Iterator[tuple[J, O]]:
        """Take the outcome of an attempt that has come to its end, this way or another."""
        job = self.jobs[attempt.place]
        try:
            outcome = self._outcome(attempt, job)
        except RunError as error:
            self.listener(TaskFailed(self.stage, job.name, str(error)))
            raise
        if outcome is None:
            return
        self._abandon_copies(attempt.place)
        seconds = time.monotonic() - attempt.began if attempt.worker else 0.0
        if attempt.worker:
            self.rates.append(seconds / max(job.size, 1))
        self.finished["done"] += outcome.done
        self.finished["failed"] += outcome.failed
        self.listener(TaskFinished(self.stage, job.name, outcome.done, outcome.failed, seconds))
        self._tell_progress()
        yield job, outcome

    def _outcome(self, attempt: _Attempt, job: J) -> O | None:
        """What the task returned; None where it was given out again."""
        try:
            outcome: O = attempt.future.result()
            return outcome
        except KilledWorker as error:
            self._give_again(attempt, job, error)
            return None
        except PadimDistError:
            raise
        except Exception as error:
            raise _explained(error, f"{self.stage}: {job.name}") from error
        finally:
            attempt.future.release()

    def _give_again(self, attempt: _Attempt, job: J, error: KilledWorker) -> None:
        """Give a task out again whose workers died; first find out whether an image kills them."""
        if any(other.place == attempt.place for other in self.attempts.values()):
            return  # its copy goes on
        reason = f"{error.allowed_failures + 1} workers died that had it"
        self.lost[attempt.place] += 1
        if is_suspect(attempt.starts, self.lost[attempt.place]):
            self.examined[attempt.place] += 1
            if self.examined[attempt.place] > _MOST_EXAMINATIONS:
                raise RunError(
                    f"{self.stage}: {job.name} killed its workers again and again, and no single "
                    "image does it: most likely for want of memory. Lower cluster.workers or "
                    "model.batch and run the same command again: it resumes"
                ) from error
            found = examine(self.client, job.examinations)
            reason += f"; {found} images kill the worker that reads them" if found else ""
        self.listener(TaskRetried(self.stage, job.name, reason))
        self.waiting.appendleft(attempt.place)

    def _abandon_copies(self, place: int) -> None:
        """Forget other attempts at a job that is done."""
        for key in [key for key, other in self.attempts.items() if other.place == place]:
            self.attempts.pop(key).future.cancel(force=True)

    def _tell_progress(self) -> None:
        most: dict[int, _Attempt] = {}
        for attempt in self.attempts.values():
            if attempt.place not in most or attempt.done > most[attempt.place].done:
                most[attempt.place] = attempt
        done = self.finished["done"] + sum(attempt.done for attempt in most.values())
        failed = self.finished["failed"] + sum(attempt.failed for attempt in most.values())
        running = sum(attempt.worker is not None for attempt in most.values())
        waiting = len(self.waiting) + len(most) - running
        done = min(done, self.total)
        self.listener(Progress(self.stage, self.total, done, failed, waiting, running))


def run_tasks(
    client: Client,
    function: Callable[[J], O],
    jobs: Sequence[J],
    stage: str,
    total: int,
    listener: Listener,
    most_workers: int | None = None,
) -> Iterator[tuple[J, O]]:
    """Map a function over jobs on the workers, in order of completion.

    Only a few tasks a worker are with the scheduler at any time, and none is held after
    it is finished. Workers may come and go: a task whose worker dies is given to
    another one; one that keeps killing its workers is examined image by image; one that
    straggles when others have nothing to do is done twice, and the first outcome counts.

    Parameters
    ----------
    client : Client
        Of the cluster.
    function : callable
        Pure in its effect: run twice, it does the same.
    jobs : sequence
        What to call it with.
    stage : str
        Named in events and errors.
    total : int
        Images (or bands) of all jobs together.
    listener : callable
        Is told what happens, in this thread.
    most_workers : int or None
        That a cluster which scales itself may grow to.

    Yields
    ------
    (job, outcome)

    Raises
    ------
    RunError
        If a task cannot be done; starting the run again resumes it.
    """
    return _Pass(client, function, jobs, stage, total, listener, most_workers).run()


def _explained(error: BaseException, what: str) -> RunError:
    """The error of a task as one that says what to do."""
    if isinstance(error, CancelledError):
        return RunError(
            f"{what}: the Dask scheduler lost it, most likely because it was started anew. Run the "
            "same command again: it resumes"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return RunError(
            f"{what}: no space left in the workspace ({error.filename or error}). Free some or "
            "move the workspace, and run the same command again: it resumes"
        )
    if isinstance(error, OSError):
        return RunError(f"{what}: {error}. Run the same command again: it resumes")
    return RunError(f"{what}: {type(error).__name__}: {error}")
