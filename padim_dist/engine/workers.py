"""The workers of a command: a map over jobs that survives the loss of workers."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster.local import is_own, open_client
from padim_dist.engine.policy import held_up
from padim_dist.engine.stage import J, O, Stage
from padim_dist.engine.task import TOPIC, Report
from padim_dist.events import Listener, Progress

logger = logging.getLogger("padim_dist")
_OPENING = "workers"


@contextmanager
def open_workers(config: ClusterConfig, most_tasks: int, listener: Listener) -> Iterator[Workers]:
    """Open a cluster for a command, as `open_client`; `listener` is called in this thread.

    Its tasks wait from here on, also while the cluster has no worker yet (stage ``"workers"``).
    """
    listener(Progress(_OPENING, 0, 0, waiting=most_tasks))
    with open_client(config, most_tasks) as client:
        listener(Progress(_OPENING, 0, 0))
        workers = Workers(client, listener, config.threads, config.most_workers)
        with workers.listening():
            yield workers
        if not is_own(config):
            workers.free()


@dataclass
class Workers:
    """Workers that do jobs, one stage after the other.

    Attributes
    ----------
    threads : int
        Threads of the trunk in each worker.
    most : int or None
        Workers that a cluster which scales itself may grow to.
    inbox : SimpleQueue
        Reports of tasks, and futures that are done.
    """

    client: Client
    listener: Listener
    threads: int = 1
    most: int | None = None
    inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _abandoned: dict[str, tuple[str, float]] = field(default_factory=dict)
    _stuck: set[str] = field(default_factory=set)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Receive what tasks report."""
        self.client.subscribe_topic(TOPIC, lambda event: self.inbox.put(event[1]))
        try:
            yield
        finally:
            self.client.unsubscribe_topic(TOPIC)

    def map(
        self, task: Callable[[J, Report], O], jobs: Sequence[J], stage: str
    ) -> list[tuple[J, O]]:
        """Do jobs on the workers; return them with their outcomes, in order of completion.

        The scheduler has only a few tasks per worker at any time. If a worker dies, its task goes
        to another one; a task that keeps killing its workers is examined image by image. If
        workers are idle, a task that straggles or does not begin is done twice, and the first
        outcome counts. A worker that stays at a task that is done elsewhere is restarted.

        Parameters
        ----------
        task : callable
            Does a job; its effect is the same if it is done twice.
        jobs : sequence
            What to do.
        stage : str
            Named in events and errors.

        Raises
        ------
        RunError
            If a job cannot be done; the same command resumes.
        """
        return list(Stage(self, task, jobs, stage).run())

    def abandon(self, key: str, worker: str) -> None:
        """Note that a worker still runs a task that is not needed any more."""
        self._abandoned[key] = worker, time.monotonic()

    def ended(self, key: str) -> None:
        """Note that a task has ended."""
        self._abandoned.pop(key, None)

    def restart_held_up(self, there: Sequence[str]) -> None:
        """Restart workers that stay at an abandoned task."""
        now = time.monotonic()
        stays = {worker: now - since for worker, since in self._abandoned.values()}
        for worker in held_up(stays):
            self._abandoned = {k: v for k, v in self._abandoned.items() if v[0] != worker}
            if worker in there:
                self.restart(worker, "it stays at a task that is done elsewhere")

    def replace(self, worker: str) -> None:
        """Note that a worker has a thread that cannot be ended."""
        self._stuck.add(worker)

    def restart_stuck(self, there: Sequence[str]) -> None:
        """Restart workers with a thread that cannot be ended."""
        for worker in self._stuck & {*there}:
            self.restart(worker, "reading or decoding an image does not end")
        self._stuck.clear()

    def restart(self, worker: str, reason: str) -> None:
        """Let the nanny of a worker restart it, without waiting for that."""
        logger.warning("worker %s is restarted: %s", worker, reason)
        assert self.client.loop is not None
        self.client.loop.add_callback(_restart, self.client, worker)

    def free(self) -> None:
        """Restart workers that are held up or stuck, for the next command."""
        for worker in {*self._stuck, *(worker for worker, _ in self._abandoned.values())}:
            self.client.sync(_restart, self.client, worker)


async def _restart(client: Client, worker: str) -> None:
    scheduler: Any = client.scheduler
    try:
        known = (await scheduler.identity(n_workers=-1))["workers"]
        if not known.get(worker, {}).get("nanny"):
            return  # it is gone, or nobody would start it again
        await scheduler.restart_workers(
            workers=[worker],
            timeout=30,
            wait_for_workers=False,
            on_error="return",
            stimulus_id=f"padim-dist-{time.time()}",
        )
    except Exception as error:  # the work goes on without the worker
        logger.warning("worker %s could not be restarted: %s", worker, error)
