"""A real Prefect server in its own process."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import free_port, running, wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def prefect_server(home: Path, database: str | None = None, ui: bool = False) -> Iterator[dict]:
    """Yield the environment of a client of a new server; SQLite in `home` by default.

    With `ui` it also serves web pages, and the logs are at level INFO.
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

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
        return False

    log = home / "server.log"
    with running(command + ([] if ui else ["--no-ui"]), of_server, log) as process:
        wait_until(answers, 120, "for an answer of Prefect's server")
        yield environment
