"""Leases between real processes, and between simulated machines."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from padim_dist.errors import HeldError
from padim_dist.storage import Folder
from padim_dist.store.lease import Holder, Pace, hold
from padim_dist.store.workspace import Workspace

QUICK = Pace(beat=0.05, expiry=0.5)


def hold_and_wait(url: str, ready) -> None:
    with hold(Workspace(Folder(url)), "run"):
        ready.set()
        signal.pause()


@pytest.fixture
def elsewhere(monkeypatch) -> None:
    """Let every holder appear to be on its own machine."""
    myself = Holder.myself
    monkeypatch.setattr(Holder, "myself", lambda: replace(myself(), place=os.urandom(8).hex()))


def test_a_killed_process_of_this_machine_loses_its_lease_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold_and_wait, args=(str(tmp_path), ready), daemon=True)
    process.start()
    assert ready.wait(60), "waited 60 s for the lease of a new process"
    workspace = Workspace(Folder(str(tmp_path)))
    never = Pace(beat=5, expiry=1e6)
    with pytest.raises(HeldError, match=rf"process {process.pid} has been at work on .*/run since"):
        hold(workspace, "run", never).__enter__()
    process.kill()
    process.join(60)
    with hold(workspace, "run", never):
        assert workspace.folder.list("run") == ["lease-00002.json"]


def test_a_zombie_process_is_gone():
    """Its parent runs and does not wait for it, so it stays in the list of processes."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    me = Holder.myself()
    held = replace(me, process=process.pid, process_began=psutil.Process(process.pid).create_time())
    assert held.is_gone(me.place) is False
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert held.is_gone(me.place) is True
    process.wait(60)


def test_a_lease_of_another_machine_is_taken_over_when_it_stops_beating(tmp_path, elsewhere):
    workspace = Workspace(Folder(str(tmp_path)))
    dead = replace(Holder.myself(), owner="somebody@else")
    workspace.folder.put_json("run/lease-00007.json", vars(dead))
    with hold(workspace, "run", QUICK) as lease:
        assert workspace.folder.list("run") == ["lease-00008.json"]
        lease.guard(print)("still mine")
    assert json.loads((tmp_path / "run/lease-00008.json").read_text())["released"] is True


def test_a_lease_of_another_machine_that_beats_is_respected(tmp_path, elsewhere):
    workspace = Workspace(Folder(str(tmp_path)))
    with (
        hold(workspace, "run", QUICK),
        pytest.raises(HeldError, match="at work"),
        hold(workspace, "run", QUICK),
    ):
        pass
    with hold(workspace, "run", QUICK):
        assert workspace.folder.list("run") == ["lease-00002.json"]


def test_of_many_at_once_one_gets_it(tmp_path):
    workspace = Workspace(Folder(str(tmp_path)))

    def try_it(_: int) -> Path | None:
        try:
            context = hold(workspace, "run", QUICK)
            context.__enter__()
        except HeldError:
            return None
        return context

    with ThreadPoolExecutor(8) as pool:
        held = [context for context in pool.map(try_it, range(24)) if context]
    assert len(held) == 1
    held[0].__exit__(None, None, None)
    with hold(workspace, "run", QUICK):
        pass
