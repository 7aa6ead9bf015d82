"""The workers of a command: a map over jobs, whatever happens to the workers."""

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
from padim_dist.engine.cluster.local import open_client
from padim_dist.engine.policy import held_up
from padim_dist.engine.stage import J, O, Stage
from padim_dist.engine.task import TOPIC, Report
from padim_dist.events import Listener

logger = logging.getLogger("padim_dist")


@contextmanager
def open_workers(config: ClusterConfig, most_tasks: int, listener: Listener) -> Iterator[Workers]:
    """Open a cluster for the stages of a command; see `open_client` for the errors.

    Parameters
    ----------
    config : ClusterConfig
        Which cluster.
    most_tasks : int
        No more local workers are started than there are tasks.
    listener : callable
        Receives events, in this thread.
    """
    with open_client(config, most_tasks) as client:
        workers = Workers(client, listener, config.threads, config.most_workers)
        with workers.listening():
            yield workers


@dataclass
class Workers:
    """Workers that do jobs, one stage after the other.

    Attributes
    ----------
    client : Client
        Of the cluster.
    listener : callable
        Receives events.
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

        Only a few tasks a worker are with the scheduler at any time, and none is held after it is
        finished. Workers may come and go: a task whose worker dies is given to another one; a task
        that keeps killing its workers is examined image by image; a task that straggles, or is not
        begun, while others have nothing to do is done twice, and the first outcome counts. A
        worker that stays at a task that is done elsewhere is restarted by its nanny.

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
        """Take note that a worker is at a task that nobody needs any more."""
        self._abandoned[key] = worker, time.monotonic()

    def ended(self, key: str) -> None:
        """Take note that a task has ended."""
        self._abandoned.pop(key, None)

    def restart_held_up(self, there: Sequence[str]) -> None:
        """Restart workers that stay at an abandoned task."""
        now = time.monotonic()
        stays = {worker: now - since for worker, since in self._abandoned.values()}
        for worker in held_up(stays):
            self._abandoned = {k: v for k, v in self._abandoned.items() if v[0] != worker}
            if worker in there:
                self.restart(worker, "it stays at a task that is done elsewhere")

    def restart(self, worker: str, reason: str) -> None:
        """Let the nanny of a worker start it anew, without waiting for it."""
        logger.warning("worker %s is restarted: %s", worker, reason)
        assert self.client.loop is not None
        self.client.loop.add_callback(_restart, self.client, worker)


async def _restart(client: Client, worker: str) -> None:
    try:
        await client._restart_workers([worker], timeout=60, raise_for_error=False)
    except Exception as error:  # e.g. it has no nanny; the work goes on without it
        logger.warning("worker %s could not be restarted: %s", worker, error)
