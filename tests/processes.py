"""Processes that tests start, wait for and find."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(
    true: Callable[[], object],
    seconds: float = 60.0,
    what: str = "for a condition",
    step: float = 0.2,
) -> None:
    """Poll something that has no event to wait for, such as files of another process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s {what}: timed out"
        time.sleep(step)


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends; its output is appended to `log`."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
            raise


def worker_processes(driver: psutil.Process) -> list[psutil.Process]:
    """Return the workers of a driver, without other children (resource tracker, git, lscpu)."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in driver.children():
            with suppress(psutil.NoSuchProcess):
                if is_forkserver(child):
                    found += child.children()
                elif "--multiprocessing-fork" in child.cmdline():
                    found.append(child)
    return found


def is_forkserver(process: psutil.Process) -> bool:
    """Return whether a process is a forkserver; its workers have the same command line."""
    return "multiprocessing.forkserver" in " ".join(process.cmdline())
