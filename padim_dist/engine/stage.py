"""A stage: the loop in the driver that gives tasks out and takes their outcomes."""

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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distributed import Future, KilledWorker

from padim_dist.engine.examine import examine
from padim_dist.engine.policy import Given, is_suspect, order, repeats, window
from padim_dist.engine.task import ENDED, Job, Outcome, Report, perform
from padim_dist.errors import PadimDistError, RunError
from padim_dist.events import Progress, TaskFailed, TaskFinished, TaskRetried, TaskStarted

if TYPE_CHECKING:
    from padim_dist.engine.workers import Workers

logger = logging.getLogger("padim_dist")
_TICK = 1.0
_MOST_EXAMINATIONS = 2
_RESUMES = "Run the same command again: it resumes"

J = TypeVar("J", bound=Job[Any])
O = TypeVar("O", bound=Outcome)  # noqa: E741


@dataclass
class _Attempt:
    """A job that is with the scheduler; its second copy is another attempt."""

    future: Future[Any]
    place: int
    given: float
    holder: str | None = None
    worker: str | None = None
    began: float = 0.0
    starts: int = 0
    done: int = 0
    failed: int = 0


@dataclass
class Stage(Generic[J, O]):
    """The state of `Workers.map`, which documents the parameters."""

    pool: Workers
    task: Callable[[J, Report], O]
    jobs: Sequence[J]
    name: str
    waiting: deque[int] = field(default_factory=deque)
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    examined: Counter[int] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)
    workers: list[str] = field(default_factory=list)
    looked: float = -1e9
    total: int = 0

    def run(self) -> Iterator[tuple[J, O]]:
        """Give tasks out and take their outcomes until all are done."""
        self.total = sum(job.size for job in self.jobs)
        self._check_connection()
        workers = max(len(self.pool.client.nthreads()), self.pool.most or 1)
        self.waiting.extend(order([job.size for job in self.jobs], workers))
        self._tell_progress()
        try:
            while self.waiting or self.attempts:
                self._look_around()
                try:
                    message = self.pool.inbox.get(timeout=_TICK)
                except queue.Empty:
                    continue
                if not isinstance(message, Future):
                    self._hear(*message)
                elif (attempt := self.attempts.pop(str(message.key), None)) is not None:
                    yield from self._conclude(attempt)
        finally:
            for attempt in self.attempts.values():
                attempt.future.release()

    def _look_around(self) -> None:
        """Look which workers are there, fill the window, and repeat what is late."""
        client = self.pool.client
        if time.monotonic() - self.looked >= _TICK:
            self._check_connection()
            before, self.workers = self.workers, list(client.nthreads())
            if before and not self.workers:
                logger.warning("%s: the cluster has no worker; waiting for one", self.name)
            self.looked = time.monotonic()
            self.pool.restart_held_up(self.workers)
            self.pool.restart_stuck(self.workers)
            if not self.waiting:
                self._repeat_late()
            self._tell_progress()  # a sign of life for the listener
        room = window(len(self.workers), self.pool.most) - len(self.attempts)
        for _ in range(min(room, len(self.waiting))):
            self._submit(self.waiting.popleft())

    def _check_connection(self) -> None:
        if self.pool.client.status == "closed":
            raise RunError(f"{self.name}: the connection to the Dask scheduler is lost. {_RESUMES}")

    def _repeat_late(self) -> None:
        """Give late tasks to other workers as well; restart workers that begin nothing."""
        unbegun = {key for key, attempt in self.attempts.items() if not attempt.worker}
        tasks = self.pool.client.processing() if unbegun else {}
        holders = {key: worker for worker, keys in tasks.items() for key in keys}
        now = time.monotonic()
        for key in unbegun:  # a task that was moved waits anew: its worker may just be starting
            attempt = self.attempts[key]
            if attempt.holder != holders.get(key):
                attempt.holder, attempt.given = holders.get(key), now
        given = [
            Given(
                place=attempt.place,
                size=self.jobs[attempt.place].size,
                seconds=now - (attempt.began if attempt.worker else attempt.given),
                worker=attempt.worker or attempt.holder,
                has_begun=attempt.worker is not None,
            )
            for attempt in self.attempts.values()
        ]
        for repeat in repeats(given, self.rates, len(self.workers)):
            if not (others := [worker for worker in self.workers if worker != repeat.avoid]):
                continue
            self._submit(repeat.place, others)
            self._retried(repeat.place, repeat.reason)
            if set(tasks.get(repeat.avoid, ())) <= unbegun and repeat.avoid in tasks:
                # It begins none of its tasks, and no report says why.
                self.pool.restart(repeat.avoid, "it begins no task")

    def _submit(self, place: int, workers: list[str] | None = None) -> None:
        future = self.pool.client.submit(
            perform,
            self.task,
            self.jobs[place],
            self.pool.threads,
            key=f"{self.task.__name__}-{uuid.uuid4().hex}",
            pure=False,
            workers=workers,
            allow_other_workers=workers is not None,
        )
        self.attempts[str(future.key)] = _Attempt(future, place, time.monotonic())
        future.add_done_callback(self.pool.inbox.put)

    def _hear(self, key: str, worker: str, done: int, failed: int) -> None:
        if done == ENDED:
            self.pool.ended(key)
            if failed:
                self.pool.replace(worker)
            return
        if (attempt := self.attempts.get(key)) is None:
            return
        attempt.done, attempt.failed = done, failed
        if done == 0:  # the report of a start
            if attempt.starts:
                self._retried(attempt.place, f"its worker {attempt.worker} died")
            attempt.starts += 1
            attempt.worker, attempt.began = worker, time.monotonic()
            self.pool.listener(TaskStarted(self.name, self.jobs[attempt.place].name, worker))
        self._tell_progress()

    def _conclude(self, attempt: _Attempt) -> Iterator[tuple[J, O]]:
        job = self.jobs[attempt.place]
        try:
            outcome = self._outcome(attempt, job)
        except PadimDistError as error:
            self.pool.listener(TaskFailed(self.name, job.name, str(error)))
            raise
        if outcome is None:
            return
        self._abandon_copies(attempt.place)
        seconds = time.monotonic() - attempt.began if attempt.worker else 0.0
        if attempt.worker:
            self.rates.append(seconds / max(job.size, 1))
        self.finished["done"] += outcome.done
        self.finished["failed"] += outcome.failed
        self.pool.listener(TaskFinished(self.name, job.name, outcome.done, outcome.failed, seconds))
        self._tell_progress()
        yield job, outcome

    def _outcome(self, attempt: _Attempt, job: J) -> O | None:
        """Return what the task returned; None if it was given out again."""
        try:
            outcome: O = attempt.future.result()
            return outcome
        except KilledWorker as error:
            self._give_again(attempt, job, error)
            return None
        except PadimDistError:
            raise
        except Exception as error:
            raise _explained(error, f"{self.name}: {job.name}") from error
        finally:
            attempt.future.release()

    def _give_again(self, attempt: _Attempt, job: J, error: KilledWorker) -> None:
        """Give a task out again whose workers died; first find out whether an image kills them."""
        if any(other.place == attempt.place for other in self.attempts.values()):
            return  # its copy goes on
        reason = f"{error.allowed_failures + 1} workers that had it died"
        self.lost[attempt.place] += 1
        if is_suspect(attempt.starts, self.lost[attempt.place]):
            self.examined[attempt.place] += 1
            if self.examined[attempt.place] > _MOST_EXAMINATIONS:
                raise RunError(
                    f"{self.name}: {job.name} killed its workers again and again, and no single "
                    "image is the cause: most likely memory ran out. Lower cluster.workers or "
                    f"model.batch. {_RESUMES}"
                ) from error
            found = examine(self.pool.client, job.sources)
            kills = "1 image kills" if found == 1 else f"{found} images kill"
            reason += f"; {kills} the worker that reads it" if found else ""
        self._retried(attempt.place, reason)
        self.waiting.appendleft(attempt.place)

    def _abandon_copies(self, place: int) -> None:
        """Cancel other attempts at a job that is done."""
        for key in [key for key, other in self.attempts.items() if other.place == place]:
            copy = self.attempts.pop(key)
            if copy.worker:
                self.pool.abandon(key, copy.worker)
            copy.future.cancel(force=True)

    def _retried(self, place: int, reason: str) -> None:
        self.pool.listener(TaskRetried(self.name, self.jobs[place].name, reason))

    def _tell_progress(self) -> None:
        most: dict[int, _Attempt] = {}
        for attempt in self.attempts.values():
            if attempt.place not in most or attempt.done > most[attempt.place].done:
                most[attempt.place] = attempt
        done = self.finished["done"] + sum(attempt.done for attempt in most.values())
        failed = self.finished["failed"] + sum(attempt.failed for attempt in most.values())
        # A dead worker runs nothing, though its task may wait for another one.
        running = sum(attempt.worker in self.workers for attempt in most.values())
        waiting = len(self.waiting) + len(most) - running
        done = min(done, self.total)
        self.pool.listener(Progress(self.name, self.total, done, failed, waiting, running))


def _explained(error: BaseException, what: str) -> RunError:
    if isinstance(error, CancelledError):
        return RunError(
            f"{what}: the Dask scheduler lost it, most likely because it was restarted. {_RESUMES}"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return RunError(
            f"{what}: no space is left in the workspace ({error.filename or error}). Free some or "
            f"move the workspace. {_RESUMES}"
        )
    if isinstance(error, OSError):
        return RunError(f"{what}: {error}. {_RESUMES}")
    return RunError(f"{what}: {type(error).__name__}: {error}")
