"""A real Prefect server, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(true: object, seconds: float = 60.0) -> None:
    """Poll what has no event to wait for: another process's HTTP interface."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment of a client of a new server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = tmp_path_factory.mktemp("prefect")
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (home / "server.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    try:
        wait_until(answers)
        yield environment
    finally:
        process.terminate()
        process.wait(30)
