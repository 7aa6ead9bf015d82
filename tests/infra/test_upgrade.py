"""The upgrade of a cluster: its order, and what it refuses. A stand-in answers for kubectl."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster

from infra.kubernetes.at_work import flow_runs
from tests.processes import wait_until

INFRA = Path(__file__).parents[2] / "infra/kubernetes"
CHANGES = ("scale", "delete", "apply --filename")


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler without workers, as an idle cluster has it."""
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture
def upgrade(tmp_path, scheduler):
    """Run the upgrade on a stand-in; return its exit code, its messages and the state after it."""
    real = shutil.which("kubectl")
    if real is None:
        pytest.skip("SKIPPED PART: kubectl is not installed")
    fake = tmp_path / "bin/kubectl"
    fake.parent.mkdir()
    words = [sys.executable, "-IS", str(Path(__file__).with_name("kubectl.py"))]  # it starts fast
    fake.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    fake.chmod(0o755)
    file = tmp_path / "cluster.json"

    def run(*options: str, overlay: Path = INFRA / "overlays/cpu", **state: object):
        port = scheduler.scheduler.http_server.port
        usual = {"flows": 1, "cluster": True, "runs": 0, "port": port, "fails": "", "calls": []}
        file.write_text(json.dumps(usual | state))
        environment = os.environ | {
            "PATH": f"{fake.parent}:{os.environ['PATH']}",
            "FAKE_CLUSTER": str(file),
            "REAL_KUBECTL": real,
        }
        command = [INFRA / "upgrade", *options, overlay]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr, json.loads(file.read_text())

    return run


def changes(state: dict) -> list[str]:
    return [call for call in state["calls"] if call.startswith(CHANGES)]


def test_the_cluster_is_gone_before_it_is_made_again(upgrade):
    code, told, state = upgrade()
    assert code == 0, told
    assert (state["flows"], state["cluster"]) == (1, True)
    first = next(i for i, call in enumerate(state["calls"]) if call.startswith(CHANGES))
    before, after = state["calls"][:first], state["calls"][first:]
    assert before[0].startswith("apply --dry-run=server")
    assert [call.split()[0] for call in after] == [
        *("scale", "wait", "delete", "wait"),
        *("apply", "wait", "rollout", "rollout"),
    ]
    assert "--cascade=foreground" in after[2]
    assert "--for=delete" in after[1]
    assert "--for=delete" in after[3]


def test_a_run_at_work_is_not_ended_unless_asked(upgrade, scheduler):
    with Client(scheduler):
        code, told, state = upgrade()
    assert code == 1
    assert "flow runs: 0, clients of the Dask scheduler: 1" in told
    assert not changes(state)
    code, told, state = upgrade(runs=1)
    assert code == 1
    assert "flow runs: 1, clients of the Dask scheduler: 0" in told
    assert not changes(state)
    code, told, state = upgrade("--force", runs=1)
    assert code == 0, told
    assert len(changes(state)) == 3


def test_no_answer_is_not_taken_for_idle(upgrade):
    for fails in ("exec", "get"):
        code, _, state = upgrade(fails=fails)
        assert code == 1
        assert not changes(state)


def test_an_overlay_that_is_refused_changes_nothing(upgrade, tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    code, told, state = upgrade(overlay=tmp_path)
    assert code == 1
    assert "missing.yaml" in told
    assert not state["calls"]
    code, _, state = upgrade(fails="--dry-run=server")
    assert code == 1
    assert not state["calls"]


def test_an_interrupted_upgrade_is_finished_by_the_next(upgrade):
    code, told, state = upgrade(fails="delete")
    assert code == 1
    assert "Run it again" in told
    assert state["flows"] == 0
    code, told, state = upgrade(flows=0, cluster=False)
    assert code == 0, told
    assert (state["flows"], state["cluster"]) == (1, True)


def test_a_process_that_has_just_ended_is_no_flow_run():
    """A list of children contains those that have ended and are not yet waited for."""
    script = ["-c", "import time; time.sleep(300)", "prefect.engine"]
    with subprocess.Popen([sys.executable, *script]) as run, subprocess.Popen(["true"]) as ended:
        dead = psutil.Process(ended.pid)
        wait_until(lambda: dead.status() == psutil.STATUS_ZOMBIE, 60, "for the process to end")
        assert [found.pid for found in flow_runs(os.getpid())] == [run.pid]
        run.kill()
