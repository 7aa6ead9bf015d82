"""Nights that fail: their state, and a message that says what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
import yaml

import padim_dist as padim
from infra.kubernetes.at_work import flow_runs
from padim_dist.config import Config, load_config
from tests.conftest import draw
from tests.flows.services import ROOT
from tests.processes import wait_until
from tests.s3.moto import moto_server
from tests.s3.proxy import FaultProxy

pytestmark = [
    pytest.mark.timeout(600),
    # HTTP clients leave connections open when their server stops.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

AT_WORK = ROOT / "infra/kubernetes/at_work.py"


@dataclass(frozen=True)
class Team:
    """A promoted model, with archive and workspace in object storage that can be cut off."""

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
        """Return the score tables and the version of each."""
        self.s3.invalidate_cache()
        found = self.s3.glob("line/audit/runs/*/scores/*.parquet", detail=True)
        return {path: f"{info['ETag']} {info['LastModified']}" for path, info in found.items()}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Let every request to the storage fail during the block."""
        self.storage.kinds, self.storage.share = ("reset",), 1.0
        yield
        self.storage.share = 0.0


@pytest.fixture(scope="module")
def team(tmp_path_factory, scheduler) -> Iterator[Team]:
    root = tmp_path_factory.mktemp("trouble")
    with moto_server() as (host, port), FaultProxy(host, port) as storage:
        impatient = {"retries": {"max_attempts": 0}}
        tree = {
            "workspace": "s3://line/audit",
            "storage_options": {"s3": {"endpoint_url": storage.url, "config_kwargs": impatient}},
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
        padim.promote(config, model=padim.fit(config).model_id, note="")
        yield Team(str(root / "config.yaml"), config, storage, s3, root)


def test_an_outage_of_the_storage_in_mid_run(prefect, team, monkeypatch):
    """The stage is retried and ends in a message; another flow run does the rest."""
    monkeypatch.setitem(prefect.environment, "PADIM_DIST_RETRIES", "0.1")
    team.arrive(1, images=24)
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
    assert tries["score night"]["run_count"] == 2, "it was retried"
    assert 0 < len(done) < 12

    monkeypatch.setitem(prefect.environment, "PREFECT_LOGGING_EXTRA_LOGGERS", "padim_dist")
    mended = prefect.run("nightly_audit", config=team.path)
    assert mended["state"]["message"] == "Night 1: 24 scored"
    now = team.tables()
    assert len(now) == 12
    assert done.items() <= now.items(), "finished tables are not written again"
    asked = {"flow_run_id": {"any_": [mended["id"]]}}
    lines = [line["message"] for line in prefect.ask("logs/filter", logs=asked)]
    assert any("is not finished: going on" in line for line in lines)


def test_only_unreadable_images(prefect, team):
    for i in range(3):
        team.s3.pipe_file(f"line/archive/a/line/2-{i}.png", b"")
    night = prefect.run("nightly_audit", config=team.path)
    assert (night["state_type"], night["state_name"]) == ("COMPLETED", "Odd")
    assert "3 unreadable - odd: 100% of 3 images cannot be used" in night["state"]["message"]
    assert "contact-sheet" not in prefect.artifacts(night["id"])


def test_a_model_of_another_backbone(prefect, team):
    """It is not retried, and no night is opened."""
    other = ["model.backbone=resnet34"]
    failed = prefect.run("nightly_audit", config=team.path, overrides=other)
    assert failed["state_type"] == "FAILED"
    assert "model.backbone: 'resnet18' -> 'resnet34'" in failed["state"]["message"]
    assert "Traceback" not in failed["stderr"]
    assert [task["run_count"] for task in prefect.tasks(failed["id"])] == [1, 1]


def test_two_nights_at_once(prefect, team, tmp_path):
    """The second is cancelled by the deployment; elsewhere it fails and names the holder."""
    team.arrive(3, images=8)
    trigger = ("deployment", "run", "nightly-audit/nightly")
    before = team.tables().keys()

    def flow_run(number: str) -> dict:
        (found,) = prefect.ask("flow_runs/filter", flow_runs={"id": {"any_": [number]}})
        return found

    def begin() -> str:
        """Trigger the deployment; return the id of the flow run."""
        return re.findall("[0-9a-f]{8}-[0-9a-f-]{27}", prefect.command(*trigger))[0]

    with prefect.serving(team.path, tmp_path) as serving:
        one = begin()
        wait_until(lambda: team.tables().keys() - before, 120, "for the first score table")
        (process,) = flow_runs(serving)  # none if the night ended too early
        process.suspend()
        # As an upgrade in Kubernetes counts flow runs.
        counted = subprocess.check_output([sys.executable, AT_WORK, "runs", str(serving)])
        assert counted == b"1\n"
        two = begin()
        wait_until(lambda: flow_run(two)["state_type"] == "CANCELLED", 60)
        refused = prefect.run("nightly_audit", config=team.path)
        process.resume()
        wait_until(lambda: flow_run(one)["state_type"] == "COMPLETED", 60)
        # A runner that shuts down ends flow processes that are just exiting, as Crashed.
        first = flow_run(one)
    second = flow_run(two)
    assert "concurrency limit" in second["state"]["message"]
    assert refused["state_type"] == "FAILED"
    assert "has been at work on" in refused["state"]["message"]
    assert "Traceback" not in refused["stderr"]
    assert first["state"]["message"].endswith(": 8 scored")
