"""Workers as forks: one thread, the driver's code and environment; kills of any process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import padim_dist
from padim_dist.engine.cluster import forkserver
from padim_dist.engine.cluster.environment import ALLOCATOR, of_workers
from tests.engine.forks import alone, needs_forks  # noqa: F401  (alone is a fixture)
from tests.processes import wait_until

pytestmark = [needs_forks, pytest.mark.usefixtures("alone")]
ENGINE = "padim_dist.engine.score"


def look() -> dict[str, Any]:
    """Return what a new worker is."""
    server = psutil.Process(os.getppid())
    return {
        "server": server.pid,
        "title": server.name(),
        "threads": server.num_threads(),
        "imported": {ENGINE, "torchvision", "distributed.worker"} <= {*sys.modules},
        "from": padim_dist.__file__,
        "path": sys.path,
        "environment": {**os.environ},
        "cuda": torch.cuda.is_initialized(),
        "ignores": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    }


def send(pipe: Any) -> None:
    pipe.send(look())
    pipe.recv()  # until the test has seen it


def start() -> tuple[Any, dict[str, Any]]:
    """Start a process as Dask does; return it and what it is."""
    context = multiprocessing.get_context(forkserver.METHOD)
    mine, its = context.Pipe()
    process = context.Process(target=send, args=(its,), daemon=True)
    process.start()
    its.close()
    assert mine.poll(60), "the new process says nothing"
    found = mine.recv()
    process.pipe = mine
    return process, found


@pytest.fixture(scope="module")
def server() -> Iterator[forkserver.Server]:
    environment = of_workers(1) | {"PADIM_TEST": "one"}
    before = dict(os.environ)
    with forkserver.opened(environment):
        changed = {
            name
            for name in before.keys() | os.environ.keys()
            if name != "PYTEST_CURRENT_TEST" and before.get(name) != os.environ.get(name)
        }
        assert not changed
        yield forkserver._open[-1]


def test_a_worker_is_a_fork_of_one_thread_and_as_its_driver(server):
    process, found = start()
    assert found["server"] == server.pid
    assert found["threads"] == 1  # a fork of several may wait for a lock for ever
    assert found["imported"]
    assert found["title"] == "padim-dist-fork"
    assert found["from"] == padim_dist.__file__
    assert found["path"] == sys.path
    assert not found["cuda"]
    # As its driver: shells start processes in the background with Ctrl-C ignored.
    assert found["ignores"] == (signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    wanted = server.environment
    differing = {
        n
        for n in wanted.keys() | found["environment"].keys()
        if wanted.get(n) != found["environment"].get(n)
    }
    assert differing <= {"COLUMNS", "LINES"}  # readline sets them without Python's knowledge
    assert found["environment"].items() >= {**ALLOCATOR, "OMP_NUM_THREADS": "1"}.items()
    process.pipe.send("end")
    process.join(60)
    assert process.exitcode == 0


def test_a_forkserver_that_is_killed_takes_its_workers_along_and_is_started_again(server):
    process, found = start()
    worker = psutil.Process(process.pid)
    os.kill(found["server"], signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 255
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    process, again = start()
    assert again["server"] == server.pid != found["server"]
    assert again["environment"] == found["environment"]
    assert again["imported"]
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_what_dask_sets_and_what_the_user_has_set(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    monkeypatch.setenv("__DASK_PARENT_PID", "1")
    for name in ("PYTHONHASHSEED", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    found = of_workers(3, {"MALLOC_TRIM_THRESHOLD_": "65536", "MORE": "x"})
    expected = {"MALLOC_ARENA_MAX": "7", "OMP_NUM_THREADS": "3", "MORE": "x"}
    expected["MALLOC_TRIM_THRESHOLD_"] = ALLOCATOR["MALLOC_TRIM_THRESHOLD_"]
    expected["PYTHONHASHSEED"] = "6640"
    assert found.items() >= expected.items()
    assert "__DASK_PARENT_PID" not in found


@pytest.mark.slow
def test_files_in_the_working_folder_do_not_replace_modules(tmp_path):
    """Neither of Python nor of this package: a forkserver imports both when it starts."""
    (tmp_path / "work").mkdir()
    for name in ("types", "threading", "pickle", "json", "torch", "padim_dist"):
        (tmp_path / "work" / f"{name}.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "script.py").write_text(
        "import multiprocessing, sys\n"
        "from padim_dist.engine.cluster import forkserver\n"
        "from padim_dist.engine.cluster.environment import of_workers\n"
        "if __name__ == '__main__':\n"
        "    with forkserver.opened(of_workers(1)):\n"
        "        context = multiprocessing.get_context(forkserver.METHOD)\n"
        "        process = context.Process(target=print, args=('ran',))\n"
        "        process.start()\n        process.join(60)\n"
        "    raise SystemExit(process.exitcode)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(padim_dist.__file__).parents[1])}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, "../script.py"],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.slow
def test_all_processes_end_with_a_driver_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(
        "import time\n"
        "from padim_dist.config import ClusterConfig\n"
        "from padim_dist.engine.cluster.local import open_client\n"
        "if __name__ == '__main__':\n"
        "    with open_client(ClusterConfig(workers=2, memory='4GiB'), 2) as client:\n"
        "        for _ in range(2):\n"
        "            client.submit(time.sleep, 300, pure=False)\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(300)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(padim_dist.__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
            started = psutil.Process(driver.pid).children(recursive=True)
            assert len(started) >= 3
        finally:
            driver.kill()
    assert not psutil.wait_procs(started, 60)[1]
