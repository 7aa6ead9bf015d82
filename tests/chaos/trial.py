"""A trial: fit and score as real commands in a new workspace, with faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from padim_dist.config import Config
from tests.chaos.command import Command
from tests.chaos.faults import Faults

_MOST_SECONDS = 600.0
"""Time limit of a command with all its restarts, far above what it needs."""
_SECONDS_TO_END = 60.0


def run_commands(config: Config, path: Path, faults: Faults) -> list[str]:
    """Run fit and score to their ends; return the unexpected failures.

    Parameters
    ----------
    config : Config
        Configuration with its own workspace.
    path : Path
        Where to write the configuration.
    faults : Faults
        Faults of the commands. A command that they kill is started again.
    """
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for name in ("fit", "score"):
        end = time.monotonic() + _MOST_SECONDS
        command = _run(name, path, faults, end)
        while command.killed:
            command = _run(name, path, faults, end)
        if command.code != 0:
            words = "\n".join(command.last)
            return [f"{name} ended with code {command.code}; its last lines:\n{words}"]
    return [
        f"worker {process.pid} outlived its driver by a minute"
        for process in _survivors(faults.orphans)
    ]


def _survivors(orphans: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the workers that did not end, and kill them."""
    end = time.monotonic() + _SECONDS_TO_END
    alive = [process for process in orphans if _lives(process)]
    while alive and time.monotonic() < end:
        psutil.wait_procs(alive, timeout=0.5)
        alive = [process for process in alive if _lives(process)]
    for process in alive:
        process.kill()
    return alive


def _lives(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _run(name: str, path: Path, faults: Faults, end: float) -> Command:
    """Run a command until it ends, is killed, or has no time left."""
    command = Command(name, path)
    faults.begin(command)
    while command.code is None:
        now = time.monotonic()
        if now >= end:
            command.abandon()
            break
        if now >= faults.due:
            faults.strike(command)
        elif event := command.next(min(end, faults.due) - now):
            faults.hear(event)
    return command
