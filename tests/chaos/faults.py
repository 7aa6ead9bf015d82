"""Faults of a trial: drawn with a seed, timed by the events of the command."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections import Counter

import psutil

from tests.chaos.command import Command, Event

_KILLS = 3
_MOMENTS = {
    "fit: start": 4.0,
    "fit: embed": 0.5,
    "fit: factorise": 0.3,
    "score: start": 4.0,
    "score": 0.5,
}
"""When drivers are killed: the moment, and the longest delay after it in seconds."""
_MOST_TASKS = 8


class Faults:
    """No faults; the base class of the others.

    Parameters
    ----------
    seed : int
        Seed of the times and the targets of faults.

    Attributes
    ----------
    due : float
        Time of the next fault on the monotonic clock.
    happened : Counter
        Counts of faults by stage.
    orphans : list of psutil.Process
        Workers whose driver was killed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.due = math.inf
        self.happened: Counter[str] = Counter()
        self.orphans: list[psutil.Process] = []

    def begin(self, command: Command) -> None:
        """Handle the start of a command."""

    def hear(self, event: Event) -> None:
        """Handle an event of a command."""

    def strike(self, command: Command) -> None:
        """Cause a fault: the time `due` has come."""


class WorkerKills(Faults):
    """``kill -9`` of a random worker: at some starts, when a stage begins, every few seconds.

    The seconds count from the first task that begins after the last kill. A start takes longer
    on a busy machine, and if every starting worker were killed, the command would never end.
    """

    def begin(self, command: Command) -> None:
        self._stage = command.stage
        at_start = self.random.random() < 0.5
        self.due = time.monotonic() + self.random.uniform(2.0, 5.0) if at_start else math.inf

    def hear(self, event: Event) -> None:
        if event["event"] == "task_started" and event["stage"] != self._stage:
            self._stage = event["stage"]
            self.due = time.monotonic() + self.random.uniform(0.0, 0.3)
        elif event["event"] == "task_started" and self.due == math.inf:
            self.due = time.monotonic() + self.random.uniform(1.5, 4.0)

    def strike(self, command: Command) -> None:
        workers = command.workers()
        if not workers:  # not started yet, or all died
            self.due = time.monotonic() + self.random.uniform(0.1, 0.5)
            return
        self.due = math.inf
        with contextlib.suppress(psutil.NoSuchProcess):
            self.random.choice(workers).kill()
            self.happened[command.stage] += 1


class DriverKills(Faults):
    """``kill -9`` of the command itself, a few times, each at another moment.

    A moment is the start of a command or one of its stages, then a number of finished tasks,
    then a delay. If the stage ends before that, the kill happens in the next stage.

    Parameters
    ----------
    seed : int
        Seed of the moments.
    kills : int
        How often the command is killed.
    """

    def __init__(self, seed: int, kills: int = _KILLS) -> None:
        super().__init__(seed)
        self._moments = list(_MOMENTS)
        self._plan = sorted(self.random.sample(range(len(self._moments)), kills))
        self._tasks = 0

    def begin(self, command: Command) -> None:
        self.due = math.inf
        self._tasks = self.random.randint(0, _MOST_TASKS)
        self._reach(command.stage, command.stage)

    def hear(self, event: Event) -> None:
        stage = event.get("stage")
        if stage in self._moments and self._plan and self.due == math.inf:
            planned = self._moments[self._plan[0]]
            self._tasks -= stage == planned and event["event"] == "task_finished"
            self._reach(stage, planned if self._tasks <= 0 else "")

    def strike(self, command: Command) -> None:
        self.due = math.inf
        self._plan.pop(0)
        stage = command.stage
        self.orphans += command.kill()
        self.happened[stage] += command.killed

    def _reach(self, stage: str, planned: str) -> None:
        """Set the time of the kill if the planned moment has come or is past."""
        if not self._plan:
            return
        place = self._moments.index(stage)
        if place > self._plan[0] or (place == self._plan[0] and stage == planned):
            self.due = time.monotonic() + self.random.uniform(0.0, _MOMENTS[stage])
