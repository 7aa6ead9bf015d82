"""A Prefect server for all tests of the flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.client import Prefect
from tests.flows.services import prefect_server


@pytest.fixture(scope="session")
def prefect(tmp_path_factory) -> Iterator[Prefect]:
    """A client of a new server."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield Prefect(environment)
