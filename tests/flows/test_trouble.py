"""Nights in which something goes wrong: a state and a message that say what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import psutil
import pytest
import yaml

import padim_dist as pd
from padim_dist.config import Config, load_config
from tests.conftest import draw
from tests.flows.services import wait_until
from tests.s3.moto import moto_server
from tests.s3.proxy import FaultProxy

# Left open by the HTTP clients when a server is stopped under them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@dataclass(frozen=True)
class Team:
    """An archive and a workspace in object storage, which can be cut off; a promoted model."""

    path: str
    config: Config
    storage: FaultProxy
    s3: fsspec.AbstractFileSystem  # not through the proxy
    local: Path

    def arrive(self, night: int, images: int) -> None:
        for i in range(images):
            name = f"a/line/{night}-{i:02d}.png"
            draw(self.local / name, 100 * night + i, spoiled=i == 0)
            self.s3.put_file(str(self.local / name), f"line/archive/{name}")

    def tables(self) -> dict[str, str]:
        """Score tables that are written, and which version of each."""
        self.s3.invalidate_cache()
        found = self.s3.glob("line/audit/runs/*/scores/*.parquet", detail=True)
        return {path: f"{info['ETag']} {info['LastModified']}" for path, info in found.items()}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """No request to the storage is answered."""
        self.storage.kinds, self.storage.share = ("reset",), 1.0
        yield
        self.storage.share = 0.0


@pytest.fixture(scope="module")
def team(tmp_path_factory, scheduler) -> Iterator[Team]:
    root = tmp_path_factory.mktemp("trouble")
    with moto_server() as (host, port), FaultProxy(host, port, latency=0.02) as storage:
        tree = {
            "workspace": "s3://line/audit",
            "storage_options": {"s3": {"endpoint_url": storage.url}},
            "archive": {"url": "s3://line/archive", "train": "/good/", "shard_images": 2},
            "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40, "batch": 4},
            "score": {"splits": ["test"]},
            "cluster": {"kind": "address", "address": scheduler},
        }
        (root / "config.yaml").write_text(yaml.safe_dump(tree))
        config = load_config(root / "config.yaml")
        s3 = fsspec.filesystem("s3", endpoint_url=f"http://{host}:{port}")
        s3.mkdir("line")
        for i in range(8):
            draw(root / "a/good" / f"{i}.jpg", i)
        s3.put(f"{root}/a", "line/archive/", recursive=True)
        pd.promote(config, model=pd.fit(config).model_id, note="")
        yield Team(str(root / "config.yaml"), config, storage, s3, root)


def test_an_outage_of_the_storage_in_mid_run(prefect, team, monkeypatch):
    """It is tried again, ends in words, and another run of the flow does the rest."""
    monkeypatch.setitem(prefect.environment, "PADIM_DIST_RETRIES", "0.1")
    team.arrive(1, images=40)
    process = prefect.start("nightly_audit", config=team.path)
    wait_until(team.tables, what="for the first score table")
    with team.outage():
        _, errors = process.communicate(timeout=300)
        done = team.tables()
    assert process.returncode == 0, errors
    failed = prefect.newest()
    assert failed["state_type"] == "FAILED"
    assert failed["state"]["message"].endswith("Run the flow again: it does the rest")
    tries = {task["name"].rpartition("-")[0]: task for task in prefect.tasks(failed["id"])}
    assert tries["score night"]["run_count"] == 2, "it was tried again"
    assert 0 < len(done) < 20

    mended = prefect.run("nightly_audit", config=team.path)
    assert mended["state"]["message"] == "Night 1: 40 scored"
    now = team.tables()
    assert len(now) == 20
    assert done.items() <= now.items(), "what was done is left alone"
