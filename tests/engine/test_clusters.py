"""Kinds of clusters: wrong settings are refused, and no kind changes a result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from distributed import Client

import padim_dist as padim
from padim_dist.config import ClusterConfig, Config, make_config
from padim_dist.engine.cluster.cards import cards
from padim_dist.engine.cluster.local import check_kind, open_client, settle, worker_count
from padim_dist.engine.cluster.tls import security_of
from padim_dist.engine.memory.projection import Need
from padim_dist.errors import ConfigError, RunError
from padim_dist.events import Event, TaskFinished, TaskStarted
from tests.conftest import make_mvtec, tiny_config
from tests.engine.outside import ROOT, another_network, make_certificates, outside
from tests.processes import wait_until
from tests.results import scores

KUBERNETES = {"kind": "kubernetes", "kubernetes": {"name": "one", "namespace": "night"}}


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"kind": "cuda", "adaptive": {"maximum": 2}}, "'adaptive' is for kinds 'local' and"),
        ({"workers_per_gpu": 2}, "'workers_per_gpu' is for kind 'cuda', not 'local'"),
        ({"kind": "kubernetes"}, r"a section 'kubernetes: \{name, namespace\}' go together"),
        ({"kubernetes": {}}, r"a section 'kubernetes: \{name, namespace\}' go together"),
        ({**KUBERNETES, "idle_timeout": 60}, "'idle_timeout' is for kinds 'local' and 'cuda'"),
        ({"kind": "address", "address": "tcp://x:1", "idle_timeout": 60}, "not 'address'"),
        ({"idle_timeout": 5}, "cluster.idle_timeout: .* greater than or equal to 60"),
        ({**KUBERNETES, "tls": {"ca": "a", "cert": "b", "key": "c"}}, "'tls' is not for kind"),
        ({**KUBERNETES, "kubernetes": {"nam": "x"}}, "did you mean 'name'"),
    ],
)
def test_settings_that_conflict(cluster, message):
    with pytest.raises(ConfigError, match=message):
        make_config({"workspace": "w", "archive": {"url": "a"}, "cluster": cluster})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_named():
    with pytest.raises(ConfigError, match="needs a GPU, and PyTorch sees none"):
        settle(ClusterConfig(kind="cuda"), "fit", Need({"all": 1}))


def test_there_are_not_more_workers_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="workers is 3, but PyTorch sees 2 GPUs"):
        check_kind(ClusterConfig(kind="cuda", workers=3))


def test_several_workers_on_each_gpu(monkeypatch):
    """Settings only: PyTorch says that there are GPUs, and the workers use none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert worker_count(ClusterConfig(kind="cuda")) == 3
    assert worker_count(ClusterConfig(kind="cuda", workers_per_gpu=4)) == 12
    assert worker_count(ClusterConfig(kind="cuda", workers_per_gpu=4, workers=5)) == 5
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cards() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 7,MIG-b,-1,2")
    assert cards() == ["GPU-a", "7", "MIG-b"]  # CUDA ignores what comes after -1


@pytest.mark.slow
def test_each_worker_sees_one_gpu_also_when_it_is_started_again(monkeypatch):
    """As the environment of its process says; there need be no GPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    config = ClusterConfig(kind="cuda", workers_per_gpu=2, workers=3, memory="2GiB")

    def seen() -> dict[int, str]:
        found = client.run(
            lambda: (os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]), on_error="ignore"
        )
        return dict(found.values())

    with open_client(config, 10) as client:
        before = seen()
        assert Counter(before.values()) == {"5": 2, "3": 1}
        (victim,) = (pid for pid, card in before.items() if card == "3")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(seen()) == 3 and victim not in seen())
        assert Counter(seen().values()) == {"5": 2, "3": 1}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,3"


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    """By a command before it does anything, and by the doctor."""
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    archive = make_mvtec(tmp_path / "archive", groups=("b",), normal=2)
    config = tiny_config(tmp_path, archive, None, cluster=KUBERNETES)
    with pytest.raises(ConfigError, match=r"pip install 'padim-dist\[kubernetes\]'"):
        settle(config.cluster, "fit", Need({"all": 1}))
    findings = {finding.check: finding for finding in padim.doctor(config).findings}
    assert findings["cluster"].verdict == "error"
    assert "padim-dist[kubernetes]" in findings["cluster"].found


@pytest.mark.slow
def test_a_kubernetes_that_does_not_answer_is_named(tmp_path):
    pytest.importorskip("dask_kubernetes", reason="SKIPPED PART: extra kubernetes not installed")
    cluster = {"server": "http://127.0.0.1:9"}
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "nowhere", "cluster": cluster}],
        "users": [{"name": "nobody", "user": {"token": "none"}}],
        "contexts": [{"name": "it", "context": {"cluster": "nowhere", "user": "nobody"}}],
        "current-context": "it",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(tree))
    # In its own process: the library leaves a half-made cluster, which prints warnings.
    code = (
        "from padim_dist.config import ClusterConfig\n"
        "from padim_dist.engine.cluster.local import open_client\n"
        f"with open_client(ClusterConfig.model_validate({KUBERNETES}), 1): pass"
    )
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 1
    assert "RunError: DaskCluster one in namespace night cannot be reached" in done.stderr


@pytest.fixture(scope="module")
def audit(tmp_path_factory, scheduler) -> Config:
    """An audit scored on this machine, with a shard for each image."""
    archive = make_mvtec(tmp_path_factory.mktemp("clusters") / "archive", groups=("b",))
    changes = {"shard_images": 1}
    config = tiny_config(tmp_path_factory.mktemp("audit"), archive, scheduler, archive=changes)
    padim.fit(config)
    padim.score(config)
    return config


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> dict[str, str]:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def unscored(audit: Config, folder: Path, cluster: dict[str, object]) -> Config:
    """Return a workspace with the same model and no run, for another cluster."""
    workspace = folder / "audit"
    shutil.copytree(audit.workspace, workspace, ignore=shutil.ignore_patterns("runs"))
    changes = {"workspace": str(workspace), "cluster": ClusterConfig.model_validate(cluster)}
    return audit.model_copy(update=changes)


@pytest.mark.slow
def test_workers_that_come_and_go_behind_tls(tmp_path, audit, tls, monkeypatch):
    """One worker, then four, then one: three are killed when all four have tasks.

    Those three are on another network, which has one link to scheduler and worker.
    """
    host, prefix, no_network = "127.0.0.1", (), None
    with ExitStack() as stack:
        try:
            there, host = stack.enter_context(another_network())
            prefix = ("ip", "netns", "exec", there)
        except OSError as error:
            no_network = error
        cluster = stack.enter_context(outside(tls, host))
        where = {"kind": "address", "address": cluster.address, "tls": tls}
        config = unscored(audit, tmp_path, where)
        cluster.add_workers(1)
        seen: list[int] = []
        at_work: set[str] = set()

        def scale(event: Event) -> None:
            if isinstance(event, TaskFinished) and not seen:
                cluster.add_workers(3, prefix)
                security = security_of(config.cluster.tls)
                with Client(cluster.address, security=security, set_as_default=False) as client:
                    client.wait_for_workers(4, timeout=120)
                seen.append(4)
            elif isinstance(event, TaskStarted):
                at_work.add(event.worker)
                if len(at_work) == 4 and seen == [4]:
                    cluster.kill_workers(3)
                    seen.append(1)

        padim.score(config, scale)
        assert seen == [4, 1]
        assert scores(config) == scores(audit)
        assert all(worker.startswith("tls://") for worker in at_work)
        # A client without a certificate of the same authority is refused.
        monkeypatch.setattr("padim_dist.engine.cluster.remote.PATIENCE", 1.0)
        stranger = ClusterConfig.model_validate({**where, "tls": make_certificates(tmp_path)})
        with pytest.raises(RunError, match="no Dask scheduler answers"), open_client(stranger, 1):
            pass
    if no_network:
        pytest.skip(f"SKIPPED PART: all was on one network, since {no_network}")
    hosts = Counter(urlsplit(worker).hostname for worker in at_work)
    assert hosts == {"10.213.7.1": 1, "10.213.7.2": 3}
