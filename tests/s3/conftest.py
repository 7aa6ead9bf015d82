"""The S3 server of these tests: moto's, or a real one at PADIM_TEST_S3 (`make test-s3`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from padim_dist.s3 import reads
from tests.s3.moto import moto_server


@pytest.fixture(autouse=True)
def _as_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the main thread read as those of a worker do, which no Ctrl-C ends."""
    monkeypatch.setattr(reads, "_is_interruptible", lambda: False)


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, int]]:
    """Host and port of the server."""
    url = urlsplit(os.environ.get("PADIM_TEST_S3", ""))
    if url.hostname and url.port:
        yield url.hostname, url.port
        return
    with moto_server() as place:
        yield place
