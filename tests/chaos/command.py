"""A padim-dist command in its own process, with the events that it reports."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import psutil

from tests.processes import worker_processes

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]


class Command:
    """A running command.

    Parameters
    ----------
    name : str
        ``fit`` or ``score``.
    config : Path
        The YAML file.

    Attributes
    ----------
    stage : str
        Stage of its last event; before the first event, its name and ``start``.
    last : deque of str
        Last lines of its stderr, to find out what went wrong.
    killed : bool
        Whether `kill` ended it.
    """

    def __init__(self, name: str, config: Path) -> None:
        self.name = name
        self.stage = f"{name}: start"
        self.last: deque[str] = deque(maxlen=20)
        self.killed = False
        self._inbox: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "padim_dist", name, "-c", str(config), "--log-json"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Its workers have the pipe open too, so the end of the pipe is not the command's end.
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._await_end, daemon=True).start()

    @property
    def code(self) -> int | None:
        """Exit code: None while it runs, minus the signal number if a signal killed it."""
        return self._process.poll()

    def next(self, seconds: float) -> Event | None:
        """Return the next event; None if none comes in this time or the command has ended."""
        if self.code is not None:
            return None
        try:
            return self._inbox.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return None

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        try:
            return worker_processes(psutil.Process(self._process.pid))
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> list[psutil.Process]:
        """Kill the process with ``kill -9``; return its orphaned workers."""
        orphans = self.workers()
        self.killed = self.code is None
        self._process.kill()
        self._process.wait(60)
        return orphans

    def abandon(self) -> None:
        """Kill it and its workers because it is out of time."""
        for worker in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        self.last.append("abandoned: it was out of time")
        self._process.kill()
        self._process.wait(60)

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                self.last.append(line.rstrip())
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:  # a line of a library, or one cut off by the kill
                    continue
                self.stage = event.get("stage", self.stage)
                self._inbox.put(event)

    def _await_end(self) -> None:
        self._process.wait()
        self._inbox.put(None)
