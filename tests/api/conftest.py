"""What the tests of the public functions share."""

from __future__ import annotations

import pytest

import padim_dist as pd
from padim_dist.config import Config
from tests.conftest import make_mvtec, tiny_config


@pytest.fixture(scope="session")
def tiny_audit(tmp_path_factory, scheduler) -> Config:
    """An archive of 39 images, indexed, fitted and scored."""
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config(folder, make_mvtec(folder / "archive"), scheduler)
    pd.fit(config)
    pd.score(config)
    return config
