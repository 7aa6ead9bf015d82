"""Which forkserver a cluster has, and when it ends; most of them import nothing here."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing import context, spawn
from types import SimpleNamespace

import dask
import psutil
import pytest

import padim_dist
from padim_dist.config import ClusterConfig
from padim_dist.engine.cluster import forkserver, preload, server
from padim_dist.engine.cluster.environment import of_workers
from padim_dist.engine.cluster.starting import starting
from padim_dist.events import Event, TaskFinished
from tests.engine.forks import alone, needs_forks  # noqa: F401  (alone is a fixture)
from tests.results import scores

pytestmark = [needs_forks, pytest.mark.usefixtures("alone")]
METHOD = "distributed.worker.multiprocessing-method"


@pytest.fixture
def bare(tmp_path, monkeypatch) -> None:
    """Forkservers take over the path and the environment only: they start at once."""
    (tmp_path / "padim_dist_boot.py").write_text(
        "import json, os, sys\n"
        "found = json.loads(os.environ.pop('PADIM_DIST_BOOT'))\n"
        "sys.path[:] = found['path']\n"
        "for name in found['environment']:\n    os.environ.pop(name, None)\n"
    )
    monkeypatch.setattr(server, "_BOOT", tmp_path)


def run_worker() -> int | None:
    process = multiprocessing.get_context(forkserver.METHOD).Process(target=int)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_cluster_takes_the_forkserver_that_was_started_ahead_only_if_it_is_as_it_should_be(bare):
    with forkserver.ready(ClusterConfig()):
        (ahead,) = forkserver._ready
        pid = ahead.pid
        assert psutil.Process(pid).is_running()
        with forkserver.opened(of_workers(1) | {"SET_BY_AN_IMPORT": "1"}) as more:
            assert forkserver._open == [ahead]
            assert more == {"SET_BY_AN_IMPORT": "1"}
        assert ahead.pid == pid  # for the next cluster of the command
        for others, needed in (({"OMP_NUM_THREADS": "7"}, []), ({"GIVEN": "1"}, ["GIVEN"])):
            with forkserver.opened(of_workers(1) | others, needed) as more:
                (other,) = forkserver._open
                assert other is not ahead
                assert not more
            assert other.pid is None
    assert ahead.pid is None
    assert not psutil.pid_exists(pid)
    assert not forkserver._ready


def test_clusters_that_are_open_at_once_have_one_forkserver_and_end_in_any_order(bare):
    first, second = (forkserver.opened(of_workers(1)) for _ in range(2))
    first.__enter__()
    (one,) = forkserver._open
    pid = one.pid
    second.__enter__()
    assert forkserver._open == [one, one]
    with (
        pytest.raises(OSError, match="other variables"),
        forkserver.opened(of_workers(1) | {"OMP_NUM_THREADS": "7"}),
    ):
        pass
    first.__exit__(None, None, None)
    assert run_worker() == 0
    assert one.pid == pid
    second.__exit__(None, None, None)
    assert one.pid is None
    # Settings of Dask that were restored in the wrong order name the method of before.
    assert run_worker() == 0
    with dask.config.set({METHOD: forkserver.METHOD}), starting(ClusterConfig(threads=2)) as found:
        assert found[METHOD] == "spawn"


def test_a_forkserver_that_runs_is_not_started_again_and_one_that_has_ended_is(bare, monkeypatch):
    with forkserver.opened(of_workers(1)):
        (one,) = forkserver._open
        with monkeypatch.context() as patch:
            patch.setattr(server, "replaced", None)  # nor is the environment touched
            one.ensure_running()
        before = one.pid
        os.kill(before, signal.SIGKILL)
        os.waitpid(before, 0)  # as some libraries do with every child
        assert run_worker() == 0
        assert one.pid != before
        os.unlink(one._forkserver_address)  # as services do that tidy /tmp
    with pytest.raises(OSError, match="has ended"):
        one.ensure_running()


def test_a_forkserver_that_has_not_imported_the_engine_is_said_once(bare, caplog):
    with forkserver.opened(of_workers(1)):
        assert [run_worker(), run_worker()] == [0, 0]
    assert caplog.text.count("the forkserver has not imported the engine") == 1


def test_the_first_import_is_found_by_each_version_of_python(monkeypatch):
    """Newer ones replace the path of the forkserver by that of its driver before its imports."""
    found = {}

    def start(_: object) -> None:
        found["path"] = spawn.get_preparation_data("forkserver")["sys_path"]
        found["environment"] = dict(os.environ)

    monkeypatch.setattr(server.ForkServer, "ensure_running", start)
    path, before = list(sys.path), dict(os.environ)
    server.Server({"ONLY": "this"}).ensure_running()
    boot = str(server._BOOT)
    assert found["path"][-1] == found["environment"]["PYTHONPATH"] == boot
    assert boot not in json.loads(found["environment"]["PADIM_DIST_BOOT"])["path"]
    assert "PATH" not in found["environment"]
    assert (sys.path, dict(os.environ)) == (path, before)
    monkeypatch.setattr(sys, "flags", SimpleNamespace(ignore_environment=1))  # python -E
    assert not forkserver.is_possible(ClusterConfig(), of_workers(1))


def test_what_the_forkserver_cannot_import_is_said_and_its_forks_end_with_it(monkeypatch):
    monkeypatch.setattr(preload, "MODULES", ("no_such_module",))
    called = []
    monkeypatch.setattr(preload, "end_forks_with_this_process", lambda: called.append(True))
    with pytest.raises(ModuleNotFoundError):
        preload.run()
    assert called
    handed = {"path": [str(server._BOOT)], "environment": {}, "title": "x"}
    done = subprocess.run(
        [sys.executable, "-c", "import padim_dist_boot"],
        env={"PADIM_DIST_BOOT": json.dumps(handed), "PYTHONPATH": str(server._BOOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stderr.startswith("padim-dist: the forkserver has not imported the engine: ")


def test_systems_without_a_forkserver_can_import_the_module(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(context, "ForkServerProcess")
    monkeypatch.delattr(context, "ForkServerContext")
    spec = importlib.util.spec_from_file_location("elsewhere", forkserver.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.is_possible(ClusterConfig(), of_workers(1))


@pytest.mark.slow
def test_a_run_goes_on_when_the_forkserver_is_killed(tmp_path, tiny_audit):
    """Both workers end with it, nannies start others from the next one, and rows are the same."""
    workspace = tmp_path / "audit"
    shutil.copytree(tiny_audit.workspace, workspace, ignore=shutil.ignore_patterns("runs"))
    here = ClusterConfig(workers=2, memory="4GiB")
    config = tiny_audit.model_copy(update={"workspace": str(workspace), "cluster": here})
    killed: list[psutil.Process] = []

    def kill(event: Event) -> None:
        if isinstance(event, TaskFinished) and not killed:
            running = psutil.Process(forkserver._open[-1].pid)
            killed[:] = running.children()
            os.kill(running.pid, signal.SIGKILL)

    padim_dist.score(config, kill)
    assert len(killed) == 2
    assert not psutil.wait_procs(killed, 60)[1]
    assert scores(config) == scores(tiny_audit)
