"""The stores of these tests, each served once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.stores.servers import Store, missing, serve

STORES = ("s3", "gcs", "azure")
collect_ignore = ["gcs.py"]  # a program for which the emulator is needed
# gcsfs asks a service for the kind of each bucket, for a minute, which the emulator does not have.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


@pytest.fixture(scope="session", params=STORES)
def store(request, tmp_path_factory) -> Iterator[Store]:
    if lacking := missing(request.param):
        pytest.skip(f"SKIPPED PART: {lacking}; `make test-stores` installs it")
    with serve(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found
