"""Workers that die, stall, come and go; drivers that meet. Real processes, the same results."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.security import Security

import padim_dist as pd
from padim_dist.api.settings import plans
from padim_dist.archive.reading.reader import ImageReader, LoadedImage
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.geometry import InputGeometry
from padim_dist.engine import policy
from padim_dist.engine.cluster.local import open_client
from padim_dist.engine.jobs import Done, WithoutImages
from padim_dist.engine.workers import Reporter, run_tasks
from padim_dist.errors import HeldError, ImageError, RequestError, RunError
from padim_dist.events import Event, Progress, TaskFailed, TaskRetried, TaskStarted
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.workspace import Workspace
from tests.conftest import make_mvtec, tiny_config
from tests.processes import wait_until, worker_processes
from tests.results import arrays, same, scores


class KillingReader(ImageReader):
    """Its process dies on one image, as of a fault in a decoder or for want of memory."""

    def decode(self, row: dict, data: bytes | ImageError) -> LoadedImage:
        if row["uri"].endswith("b/test/spot/02.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, data)


class DeadlyReader(ImageReader):
    """Whatever it reads, its process dies when it is not read alone."""

    def decode(self, row: dict, data: bytes | ImageError) -> LoadedImage:
        if threading.current_thread().name.startswith("reader"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, data)


class StallingReader(ImageReader):
    """The first one to load a certain image waits until the test is over."""

    def decode(self, row: dict, data: bytes | ImageError) -> LoadedImage:
        if row["uri"].endswith("b/test/spot/03.png"):
            here = Path(row["uri"]).parents[4]
            try:
                (here / "stalled").touch(exist_ok=False)
            except FileExistsError:
                return super().decode(row, data)
            while not (here / "over").exists():
                time.sleep(0.05)
        return super().decode(row, data)


class ForgetfulFolder(Folder):
    """A store whose answers are lost: what was written is refused when it is sent again."""

    def create(self, path: str, data: bytes) -> bool:
        super().create(path, data)
        return super().create(path, data)


def read_with(monkeypatch: pytest.MonkeyPatch, kind: type[ImageReader]) -> None:
    """Let jobs carry another reader."""
    usual: Callable[[Config, InputGeometry], ImageReader] = plans.reader_of

    def reader_of(config: Config, geometry: InputGeometry) -> ImageReader:
        return kind(**vars(usual(config, geometry)))

    monkeypatch.setattr(plans, "reader_of", reader_of)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_mvtec(tmp_path_factory.mktemp("faults") / "archive", groups=("b",))


@pytest.fixture(scope="module")
def audit(tmp_path_factory, archive, scheduler) -> Config:
    config = tiny_config(tmp_path_factory.mktemp("audit"), archive, scheduler)
    pd.fit(config)
    pd.score(config)
    return config


def kill_workers(scheduler: str, how_many: int) -> None:
    with Client(scheduler, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    for pid in pids[:how_many]:
        os.kill(pid, signal.SIGKILL)


def test_an_image_that_kills_its_worker_becomes_a_row(
    tmp_path, archive, audit, scheduler, monkeypatch
):
    config = tiny_config(tmp_path, archive, scheduler)
    pd.fit(config)
    read_with(monkeypatch, KillingReader)
    heard: list[Event] = []
    assert pd.score(config, heard.append).statuses == {"scored": 17, "unreadable": 4}
    rows, usual = scores(config), scores(audit)
    differing = [row for row, other in zip(rows, usual, strict=True) if row != other]
    assert [Path(row["uri"]).name for row in differing] == ["02.png"]
    (row,) = differing
    assert row["status"] == "unreadable"
    assert row["error"].startswith("reading it killed 2 workers")
    retried = [event for event in heard if isinstance(event, TaskRetried)]
    assert any("1 images kill the worker" in event.reason for event in retried)
    # What was found is kept: nobody dies again, until it is removed.
    (kept,) = (Path(config.workspace) / "set_aside").iterdir()
    assert str(kept) in row["error"]
    run = Path(config.workspace) / "runs" / pd.score(config).run_id
    for path in (run / "scores").iterdir():
        path.unlink()
    heard.clear()
    pd.score(config, heard.append)
    assert scores(config) == rows
    assert not any(isinstance(event, TaskRetried) for event in heard)


def test_a_task_that_no_image_is_to_blame_for_ends_the_run(
    tmp_path, archive, scheduler, monkeypatch
):
    config = tiny_config(tmp_path, archive, scheduler, archive={"shard_images": 50})
    read_with(monkeypatch, DeadlyReader)
    monkeypatch.setattr("padim_dist.engine.workers._MOST_EXAMINATIONS", 1)
    heard: list[Event] = []
    with pytest.raises(RunError, match="no single image does it: most likely for want of memory"):
        pd.fit(config, heard.append)
    assert isinstance(heard[-1], TaskFailed)


def test_all_workers_die_in_the_midst(tmp_path, archive, audit, scheduler):
    """In every stage of a fit and a score: the same bits."""
    config = tiny_config(tmp_path, archive, scheduler)
    killed: list[str] = []

    def kill(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.stage not in killed:
            killed.append(event.stage)
            kill_workers(scheduler, 2)

    pd.fit(config, kill)
    pd.score(config, kill)
    stages = [
        "fit: embed",
        "fit: factorise",
        "fit: leave out",
        "fit: calibrate",
        "score",
        "score: drift",
    ]
    assert killed == stages
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)


def test_a_worker_is_replaced_and_so_is_one_that_dies_at_its_start():
    """A nanny gives up where its worker dies at the first start, which Dask leaves at that."""
    with open_client(ClusterConfig(workers=1, memory="4GiB"), 1) as client:
        first = client.submit(os.getpid, pure=False).result()
        before = {child.pid for child in psutil.Process().children()}
        (nanny,) = client.cluster.workers.values()
        client.cluster.sync(nanny.close)
        second = new_worker(before)
        os.kill(second, signal.SIGKILL)
        third = client.submit(os.getpid, pure=False).result(timeout=120)
        assert third not in (first, second)


def new_worker(before: set[int]) -> int:
    """Process number of a worker that was not there before, as soon as it is."""
    while True:
        for worker in worker_processes(psutil.Process()):
            if worker.pid not in before:
                return worker.pid
        time.sleep(0.01)


def test_a_put_whose_answer_is_lost_is_not_a_twin(tmp_path, archive, audit, scheduler, monkeypatch):
    """It is sent again, and refused then: the moments that its receipt names must stay."""
    config = tiny_config(tmp_path, archive, scheduler)
    folder = ForgetfulFolder(config.workspace)
    for module in ("fit_plan", "score"):
        where = f"padim_dist.api.pipeline.{module}.workspace_of"
        monkeypatch.setattr(where, lambda _: Workspace(folder))
    pd.fit(config)
    pd.score(config)
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)


def test_a_straggler_is_done_a_second_time(tmp_path, scheduler, monkeypatch):
    root = make_mvtec(tmp_path / "archive", groups=("b",))
    config = tiny_config(tmp_path, root, scheduler)
    pd.fit(config)
    monkeypatch.setattr(policy, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(policy, "_LONGEST_WAIT", 5.0)
    read_with(monkeypatch, StallingReader)
    heard: list[Event] = []
    try:
        result = pd.score(config, heard.append)
    finally:
        (tmp_path / "over").touch()
    assert (tmp_path / "stalled").exists()
    assert result.statuses == {"scored": 18, "unreadable": 3}
    retried = [event for event in heard if isinstance(event, TaskRetried)]
    assert [e.reason[:9] for e in retried if e.stage == "score"] == ["straggles"]
    # The worker of the first copy is still held up: the drift may have been given to it.
    assert {e.reason[:12] for e in retried if e.stage != "score"} <= {"is not begun"}
    assert len(scores(config)) == 21


@dataclass(frozen=True)
class Errand(WithoutImages):
    name: str


def do_errand(_: Errand) -> Done:
    Reporter()
    return Done()


def wait_for(path: str) -> None:
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.05)


def test_tasks_given_to_a_worker_that_is_held_up_go_to_another_one(
    tmp_path, scheduler, monkeypatch
):
    """A cancelled task goes on, unseen by the scheduler, which gives its worker more."""
    monkeypatch.setattr(policy, "_LONGEST_WAIT", 1.0)
    over = tmp_path / "over"
    heard: list[Event] = []
    with Client(scheduler, set_as_default=False) as client:
        held_up, *_ = client.nthreads()
        errand = client.submit(wait_for, str(over), workers=[held_up], pure=False)
        wait_until(Path(f"{over}.begun").exists)
        errand.cancel(force=True)
        try:
            for number in range(6):  # the scheduler takes one worker or the other
                jobs = [Errand(f"errand {number}")]
                done = list(run_tasks(client, do_errand, jobs, "errands", 1, heard.append))
                assert done == [(jobs[0], Done())]
        finally:
            over.touch()
    passed_on = [event.reason for event in heard if isinstance(event, TaskRetried)]
    assert any(reason.startswith(f"is not begun by {held_up}") for reason in passed_on)


def test_a_cluster_that_scales_itself_behind_tls(tmp_path, archive, audit):
    security = Security.temporary()
    tls = {
        "ca": security.tls_ca_file,
        "cert": security.tls_scheduler_cert,
        "key": security.tls_scheduler_key,
    }
    for name, content in tls.items():
        (tmp_path / f"{name}.pem").write_text(content)
    cluster = {
        "adaptive": {"minimum": 1, "maximum": 2},
        "memory": "4GiB",
        "tls": {name: str(tmp_path / f"{name}.pem") for name in tls},
    }
    heard: list[Event] = []
    config = tiny_config(tmp_path, archive, None, cluster=cluster)
    pd.fit(config, heard.append)
    pd.score(config, heard.append)
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)
    workers = {event.worker for event in heard if isinstance(event, TaskStarted)}
    assert all(worker.startswith("tls://127.0.0.1") for worker in workers)


def test_a_second_run_on_the_same_target_is_refused(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    fit_id = pd.fit(config).fit_id
    run_id = pd.score(config).run_id
    folder = Folder(config.workspace)
    run = Path(config.workspace) / "runs" / run_id
    next((run / "scores").iterdir()).unlink()
    with hold(folder, f"runs/{run_id}"), pytest.raises(HeldError, match=r"process \d+ has been at"):
        pd.score(config)
    assert pd.score(config).scored > 0
    with hold(folder, f"fits/{fit_id}"):
        assert pd.fit(config).embedded == 0  # there is nothing to do: nobody is disturbed


def test_a_run_that_lost_its_lease_stops(tmp_path, archive, scheduler, monkeypatch):
    """It slept too long, and another one took over."""
    from padim_dist.store import lease

    monkeypatch.setattr(lease.Pace.__init__, "__defaults__", (0.05, 30.0))
    config = tiny_config(tmp_path, archive, scheduler)
    fits = Path(config.workspace) / "fits"

    def take_over(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "fit: embed" and event.done == 0:
            for held in fits.glob("*/lease-00001.json"):
                (held.parent / "lease-00002.json").write_bytes(held.read_bytes())

    with pytest.raises(HeldError, match="was taken over by somebody else"):
        pd.fit(config, take_over)


def test_resuming_under_other_settings_is_refused(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    fit = pd.fit(config)
    assert pd.fit(config, resume=fit.fit_id).embedded == 0
    score = pd.score(config, resume=None)
    assert pd.score(config, resume=score.run_id).scored == 0
    other = tiny_config(tmp_path, archive, scheduler, model={"seed": 5}, fit={"parts": 2})
    with pytest.raises(RequestError, match=r"fit\.parts: 32 -> 2; model\.seed: 1024 -> 5"):
        pd.fit(other, resume=fit.fit_id)
    quiet = tiny_config(tmp_path, archive, scheduler, score={"heatmaps": "none"})
    with pytest.raises(RequestError, match=r"score\.heatmaps: 'grid' -> 'none'"):
        pd.score(quiet, resume=score.run_id)
    with pytest.raises(RequestError, match="holds no abc; leave out --resume"):
        pd.fit(config, resume="abc")
