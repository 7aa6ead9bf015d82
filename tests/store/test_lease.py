"""Leases between real processes, and between simulated machines."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from padim_dist.errors import HeldError, RunError
from padim_dist.storage import Folder
from padim_dist.store.lease import Holder, Pace, hold
from padim_dist.store.lease.holder import began
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
    held = replace(me, process=process.pid, process_began=began(process.pid))
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


class Flaky(Folder):
    """A folder whose puts fail, or wait, while a test says so."""

    fails = False
    open = threading.Event()
    hangs = threading.Event()

    def put(self, path: str, data: bytes) -> None:
        if Flaky.fails:
            raise OSError(28, "No space left on device")
        if not Flaky.open.is_set():
            Flaky.hangs.set()
            Flaky.open.wait(60)
        super().put(path, data)


@pytest.fixture
def flaky(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.setattr(Flaky, "open", threading.Event())
    monkeypatch.setattr(Flaky, "hangs", threading.Event())
    Flaky.open.set()
    yield Workspace(Flaky(str(tmp_path)))
    Flaky.fails = False
    Flaky.open.set()


def test_a_release_that_fails_does_not_lock_out_its_own_process(flaky, caplog):
    never = Pace(beat=0.05, expiry=1e6)
    with hold(flaky, "run", never):
        Flaky.fails = True
    assert "lease-00001.json is not released yet: [Errno 28]" in caplog.text
    with hold(flaky, "run", never) as lease:
        lease.guard(print)("mine")
        Flaky.fails = False
        # Two threads of a process exclude each other.
        with pytest.raises(HeldError, match="has been at work"):
            hold(flaky, "run", never).__enter__()
    assert json.loads(flaky.folder.read("run/lease-00002.json"))["released"] is True


def test_a_release_is_tried_again_until_the_store_is_back(flaky):
    """Else another process of this machine is locked out for as long as this one lives."""
    with hold(flaky, "run", QUICK) as lease:
        Flaky.fails = True
    Flaky.fails = False
    lease._thread.join(60)
    assert json.loads(flaky.folder.read("run/lease-00001.json"))["released"] is True


def test_a_heartbeat_that_hangs_notices_the_takeover(flaky, elsewhere):
    with hold(flaky, "run", QUICK) as lease:
        Flaky.open.clear()
        assert Flaky.hangs.wait(60), "waited 60 s for a heartbeat"
        other = Workspace(Folder(flaky.folder.url))
        with hold(other, "run", QUICK):
            Flaky.open.set()
            lease._thread.join(60)
            with pytest.raises(HeldError, match="was taken over by another process"):
                lease.guard(print)("still mine?")


DAMAGED = {
    "empty": b"",
    "no JSON": b"\x00\xff{",
    "no fields": b"{}",
    "a list": b"[]",
    "a number": b"7",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_lease_is_taken_over_when_nothing_writes_to_it(tmp_path, content):
    workspace = Workspace(Folder(str(tmp_path)))
    workspace.folder.put("run/lease-00003.json", content)
    with hold(workspace, "run", QUICK):
        assert workspace.folder.list("run") == ["lease-00004.json"]


def test_a_damaged_lease_that_something_writes_to_is_respected(tmp_path, monkeypatch):
    workspace, beats = Workspace(Folder(str(tmp_path))), []
    read = Folder.read

    def read_another(self: Folder, path: str) -> bytes:
        beats.append(path)
        return read(self, path) + b" " * len(beats)

    workspace.folder.put("run/lease-00003.json", b"{}")
    monkeypatch.setattr(Folder, "read", read_another)
    with pytest.raises(HeldError, match=r"lease-00003.json cannot be read \(owner: Field required"):
        hold(workspace, "run", Pace(beat=0.05, expiry=1e6)).__enter__()


def test_other_names_and_unknown_fields_do_not_matter(tmp_path, elsewhere):
    """A later version may write more fields."""
    workspace = Workspace(Folder(str(tmp_path)))
    workspace.folder.put("run/lease-of-mine.json", b"{}")
    later = {**vars(Holder.myself()), "owner": "b@c, process 8", "gpu": 3}
    workspace.folder.put_json("run/lease-00003.json", later)
    with hold(workspace, "run", QUICK):
        assert workspace.folder.list("run") == ["lease-00004.json", "lease-of-mine.json"]


def test_a_lease_of_version_0_2_is_watched_like_one_of_another_machine(tmp_path):
    """It names this process by its time of creation, which moved when the clock was set."""
    workspace, me = Workspace(Folder(str(tmp_path))), Holder.myself()
    place = " ".join(me.place.split()[:2])
    old = {**vars(me), "place": place, "process_began": 1.7e9, "token": "0" * 32}
    workspace.folder.put_json("run/lease-00001.json", old)
    with hold(workspace, "run", QUICK):
        assert workspace.folder.list("run") == ["lease-00002.json"]


def test_a_process_is_known_though_the_clock_is_set(monkeypatch):
    """Only ticks since the boot are compared, never the time of day."""
    me = Holder.myself()
    monkeypatch.setattr("psutil.Process.create_time", lambda _: 0.0)
    assert Holder.myself().process_began == me.process_began
    assert me.is_gone(me.place) is False
    assert replace(me, process_began=me.process_began + 1).is_gone(me.place) is True


def test_an_error_of_the_stores_client_says_what_to_do(tmp_path):
    """And an error of any other kind, perhaps one of the program, stays what it is."""
    workspace, url = Workspace(Folder(str(tmp_path))), "http://localhost:1/audit/zarr.json"
    error = EndpointConnectionError(endpoint_url=url)
    with (
        pytest.raises(RunError, match=r"cannot be used: .*localhost:1.* Run the same command"),
        hold(workspace, "fits/a"),
    ):
        raise error
    with pytest.raises(ZeroDivisionError), hold(workspace, "fits/a"):
        raise ZeroDivisionError
