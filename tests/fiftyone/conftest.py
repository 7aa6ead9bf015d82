"""FiftyOne on a database of its own: the `mongod` that one of FiftyOne's packages contains."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MONGOD = Path(sysconfig.get_path("purelib"), "fiftyone/db/bin/mongod")


@pytest.fixture(scope="session", autouse=True)
def _database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start a database; FiftyOne connects to it when it is imported."""
    folder = tmp_path_factory.mktemp("database")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    MONGOD.chmod(0o755)
    command = [str(MONGOD), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, "--nounixsocket"], stdout=log, stderr=log)
    try:
        _wait(port)
        os.environ.update(
            FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{port}",
            FIFTYONE_DATABASE_VALIDATION="false",  # of its version, which is the oldest supported
            FIFTYONE_DO_NOT_TRACK="true",
            FIFTYONE_CONFIG_PATH=str(folder / "config.json"),
        )
        yield
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait(port: int) -> None:
    """Wait until the database accepts connections."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the database did not start within a minute")
