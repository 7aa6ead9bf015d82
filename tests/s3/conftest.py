"""The S3 server of these tests: moto's, or a real one at PADIM_TEST_S3 (`make test-s3`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, int]]:
    """Host and port."""
    url = urlsplit(os.environ.get("PADIM_TEST_S3", ""))
    if url.hostname and url.port:
        yield url.hostname, url.port
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()
