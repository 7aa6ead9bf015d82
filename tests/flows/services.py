"""A real Prefect server, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(true: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    """Poll what has no event to wait for: another process's HTTP interface."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"nothing after {seconds} s {what}"
        time.sleep(0.2)


@contextmanager
def prefect_server(home: Path, database: str | None = None, ui: bool = False) -> Iterator[dict]:
    """Environment of a client of a new server; SQLite in `home` unless a database is given.

    With pages for people (`ui`) their logs are there, too.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "INFO" if ui else "WARNING",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(ROOT),
    }
    of_server = {**environment, "PREFECT_UI_API_URL": url}
    if database:
        of_server["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command + ([] if ui else ["--no-ui"]), env=of_server, stdout=log, stderr=log
        )

    def answers() -> bool:
        assert process.poll() is None, (home / "server.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    try:
        wait_until(answers, 120)
        yield environment
    finally:
        process.terminate()
        process.wait(30)


def flow_process(serving: int) -> psutil.Process | None:
    """The process of the flow run that is under way, by the number of the one that serves."""
    for child in psutil.Process(serving).children(recursive=True):
        if {"prefect.engine", "prefect.flow_engine"} & set(child.cmdline()):
            return child
    return None
