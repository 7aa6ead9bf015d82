"""Workers that die, stall, come and go; two drivers at once. Real processes, the same results."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.security import Security

import padim_dist as padim
from padim_dist.api.settings import plans
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.config import ClusterConfig, Config
from padim_dist.engine import policy
from padim_dist.engine.cluster.local import open_client
from padim_dist.engine.task import Done, Report, WithoutImages
from padim_dist.engine.workers import Workers
from padim_dist.errors import HeldError, ImageError, RequestError, RunError
from padim_dist.events import Event, Progress, TaskFailed, TaskRetried, TaskStarted
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.workspace import Workspace
from tests.conftest import make_mvtec, tiny_config
from tests.processes import wait_until, worker_processes
from tests.results import arrays, same, scores


class KillingReader(ImageReader):
    """Kills its process at one image, as a decoder fault or lack of memory does."""

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if row.uri.endswith("b/test/spot/02.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, data)


class DeadlyReader(ImageReader):
    """Kills its process at every image that is not read alone."""

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if threading.current_thread().name.startswith("reader"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(row, data)


class StallingReader(ImageReader):
    """Stalls at the first load of one image, for longer than the test may take."""

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if row.uri.endswith("b/test/spot/03.png"):
            try:
                (Path(row.uri).parents[4] / "stalled").touch(exist_ok=False)
            except FileExistsError:
                return super().decode(row, data)
            hold_up()
        return super().decode(row, data)


def hold_up() -> None:
    """Keep a task running, at most two minutes if no nanny restarts the worker."""
    threading.Event().wait(120)


class ForgetfulFolder(Folder):
    """A store whose answers are lost: a retried write is refused because the file exists."""

    def create(self, path: str, data: bytes) -> bool:
        super().create(path, data)
        return super().create(path, data)


def read_with(monkeypatch: pytest.MonkeyPatch, kind: type[ImageReader]) -> None:
    """Give the jobs another reader."""
    usual: Callable[..., ImageReader] = plans.reader_of

    def reader_of(config: Config, *more: object) -> ImageReader:
        return kind(**vars(usual(config, *more)))

    monkeypatch.setattr(plans, "reader_of", reader_of)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_mvtec(tmp_path_factory.mktemp("faults") / "archive", groups=("b",))


@pytest.fixture(scope="module")
def audit(tmp_path_factory, archive, scheduler) -> Config:
    config = tiny_config(tmp_path_factory.mktemp("audit"), archive, scheduler)
    padim.fit(config)
    padim.score(config)
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
    padim.fit(config)
    read_with(monkeypatch, KillingReader)
    heard: list[Event] = []
    assert padim.score(config, heard.append).statuses == {"scored": 17, "unreadable": 4}
    rows, usual = scores(config), scores(audit)
    differing = [row for row, other in zip(rows, usual, strict=True) if row != other]
    assert [Path(row["uri"]).name for row in differing] == ["02.png"]
    (row,) = differing
    assert row["status"] == "unreadable"
    assert row["error"].startswith("reading it killed 2 workers")
    retried = [event for event in heard if isinstance(event, TaskRetried)]
    assert any("1 image kills the worker" in event.reason for event in retried)
    # The image stays set aside: no worker dies again until that file is removed.
    (kept,) = (Path(config.workspace) / "set_aside").iterdir()
    assert str(kept) in row["error"]
    run = Path(config.workspace) / "runs" / padim.score(config).run_id
    for path in (run / "scores").iterdir():
        path.unlink()
    heard.clear()
    padim.score(config, heard.append)
    assert scores(config) == rows
    assert not any(isinstance(event, TaskRetried) for event in heard)


@pytest.mark.slow
def test_a_task_that_fails_without_one_bad_image_ends_the_run(
    tmp_path, archive, scheduler, monkeypatch
):
    config = tiny_config(tmp_path, archive, scheduler, archive={"shard_images": 50})
    read_with(monkeypatch, DeadlyReader)
    monkeypatch.setattr("padim_dist.engine.stage._MOST_EXAMINATIONS", 1)
    heard: list[Event] = []
    with pytest.raises(RunError, match="no single image is the cause: most likely memory ran out"):
        padim.fit(config, heard.append)
    assert isinstance(heard[-1], TaskFailed)


@pytest.mark.slow
def test_workers_die_in_every_stage(tmp_path, archive, audit, scheduler):
    """All workers in the stages that read images, one in the others; the same bits."""
    config = tiny_config(tmp_path, archive, scheduler)
    killed: list[str] = []

    def kill(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.stage not in killed:
            killed.append(event.stage)
            kill_workers(scheduler, 2 if event.stage in ("fit: embed", "score") else 1)

    padim.fit(config, kill)
    padim.score(config, kill)
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
    """A nanny gives up if its worker dies at the first start, and Dask does not replace it."""
    with open_client(ClusterConfig(workers=1, memory="4GiB"), 1) as client:
        first = client.submit(os.getpid, pure=False).result(timeout=120)
        before = {child.pid for child in psutil.Process().children()}
        (nanny,) = client.cluster.workers.values()
        client.cluster.sync(nanny.close)
        second = new_worker(before)
        os.kill(second, signal.SIGKILL)
        third = client.submit(os.getpid, pure=False).result(timeout=120)
        assert third not in (first, second)


def new_worker(before: set[int]) -> int:
    """Wait for a new worker; return its process id."""
    found: list[int] = []

    def find() -> bool:
        found[:] = [w.pid for w in worker_processes(psutil.Process()) if w.pid not in before]
        return bool(found)

    wait_until(find, step=0.01)
    return found[0]


@pytest.mark.slow
def test_a_put_whose_answer_is_lost_is_kept(tmp_path, archive, audit, scheduler, monkeypatch):
    """The retried write is refused, but the moments that its receipt names must stay."""
    config = tiny_config(tmp_path, archive, scheduler)
    folder = ForgetfulFolder(config.workspace)
    for module in ("fit_plan", "score_plan"):
        where = f"padim_dist.api.pipeline.{module}.workspace_of"
        monkeypatch.setattr(where, lambda _: Workspace(folder))
    padim.fit(config)
    padim.score(config)
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)


def test_a_straggler_is_done_a_second_time_and_its_worker_restarted(
    tmp_path, scheduler, monkeypatch
):
    root = make_mvtec(tmp_path / "archive", groups=("b",))
    config = tiny_config(tmp_path, root, scheduler)
    padim.fit(config)
    monkeypatch.setattr(policy, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(policy, "_LONGEST_WAIT", 5.0)
    read_with(monkeypatch, StallingReader)
    heard: list[Event] = []
    before = set(workers_of(scheduler))
    result = padim.score(config, heard.append)
    assert (tmp_path / "stalled").exists()
    assert result.statuses == {"scored": 18, "unreadable": 3}
    retried = [event for event in heard if isinstance(event, TaskRetried)]
    assert [e.reason[:9] for e in retried if e.stage == "score"] == ["straggles"]
    # The worker of the first copy still stalled and may have received the drift task.
    assert {e.reason[:12] for e in retried if e.stage != "score"} <= {
        "is not begun",
        "its worker t",
    }
    assert len(scores(config)) == 21
    held_up = retried[0].reason.split()[2].rstrip(":")
    assert held_up in before
    wait_until(lambda: held_up not in (now := workers_of(scheduler)) and len(now) == 2)


@dataclass(frozen=True)
class Errand(WithoutImages):
    name: str

    def find(self) -> Done | None:
        return None


def do_errand(_: Errand, _report: Report) -> Done:
    return Done()


def import_all() -> None:
    """Nothing: to find this function a worker imports all that tasks need."""


def begin_and_hold_up(path: str) -> None:
    Path(path).touch()
    hold_up()


def test_a_worker_that_starts_no_task_is_restarted(tmp_path, scheduler, monkeypatch):
    """A cancelled task goes on; the scheduler does not know it and gives the worker more."""
    monkeypatch.setattr(policy, "_LONGEST_WAIT", 2.0)
    begun = tmp_path / "begun"
    heard: list[Event] = []
    with Client(scheduler, set_as_default=False) as client:
        wait_until(lambda: len(client.run(import_all)) == 2)
        held_up, *_ = client.nthreads()
        errand = client.submit(begin_and_hold_up, str(begun), workers=[held_up], pure=False)
        wait_until(begun.exists)
        errand.cancel(force=True)
        workers = Workers(client, heard.append)
        with workers.listening():
            for number in range(6):  # the scheduler chooses either worker
                jobs = [Errand(f"errand {number}")]
                assert workers.map(do_errand, jobs, "errands") == [(jobs[0], Done())]
        wait_until(lambda: held_up not in client.nthreads() and len(client.nthreads()) == 2)
    passed_on = [event.reason for event in heard if isinstance(event, TaskRetried)]
    assert any(reason.startswith(f"is not begun by {held_up}") for reason in passed_on)


def workers_of(scheduler: str) -> list[str]:
    """Return the addresses of the workers of a cluster."""
    with Client(scheduler, set_as_default=False) as client:
        return list(client.nthreads())


@pytest.mark.slow
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
    padim.fit(config, heard.append)
    padim.score(config, heard.append)
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)
    workers = {event.worker for event in heard if isinstance(event, TaskStarted)}
    assert all(worker.startswith("tls://127.0.0.1") for worker in workers)


def test_a_second_run_on_the_same_target_is_refused(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    fit_id = padim.fit(config).fit_id
    run_id = padim.score(config).run_id
    workspace = Workspace(Folder(config.workspace))
    run = Path(config.workspace) / "runs" / run_id
    next((run / "scores").iterdir()).unlink()
    refused = pytest.raises(HeldError, match=r"process \d+ has been at")
    with hold(workspace, f"runs/{run_id}"), refused:
        padim.score(config)
    assert padim.score(config).scored > 0
    with hold(workspace, f"fits/{fit_id}"):
        assert padim.fit(config).embedded == 0  # nothing to do, so no lease is needed


def test_a_run_that_lost_its_lease_stops(tmp_path, archive, scheduler, monkeypatch):
    """It stopped renewing the lease, and another run took over."""
    from padim_dist.store import lease

    monkeypatch.setattr(lease.Pace.__init__, "__defaults__", (0.05, 30.0))
    config = tiny_config(tmp_path, archive, scheduler)
    fits = Path(config.workspace) / "fits"

    def take_over(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "fit: embed" and event.done == 0:
            for held in fits.glob("*/lease-00001.json"):
                (held.parent / "lease-00002.json").write_bytes(held.read_bytes())

    with pytest.raises(HeldError, match="was taken over by another process"):
        padim.fit(config, take_over)


def test_resuming_under_other_settings_is_refused(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    fit = padim.fit(config)
    assert padim.fit(config, resume=fit.fit_id).embedded == 0
    score = padim.score(config, resume=None)
    assert padim.score(config, resume=score.run_id).scored == 0
    other = tiny_config(tmp_path, archive, scheduler, model={"seed": 5}, fit={"parts": 2})
    with pytest.raises(RequestError, match=r"fit\.parts: 32 -> 2; model\.seed: 1024 -> 5"):
        padim.fit(other, resume=fit.fit_id)
    quiet = tiny_config(tmp_path, archive, scheduler, score={"heatmaps": "none"})
    with pytest.raises(RequestError, match=r"score\.heatmaps: 'grid' -> 'none'"):
        padim.score(quiet, resume=score.run_id)
    with pytest.raises(RequestError, match="has no abc; leave out --resume"):
        padim.fit(config, resume="abc")
