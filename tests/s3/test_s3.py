"""The same pipeline with archive and workspace in an S3 server, sound and failing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.server import ThreadedMotoServer

import padim_dist as pd
from padim_dist.archive.objects import ObjectFetcher, RetryPolicy
from padim_dist.config import Config
from padim_dist.errors import ImageError, RunError
from tests.conftest import make_mvtec, tiny_config
from tests.s3.proxy import FaultProxy

# Left open by the HTTP clients when a server is stopped under them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory, scheduler) -> tuple[Path, Config]:
    """An archive on disk, and its audit there: what S3 is compared with."""
    folder = tmp_path_factory.mktemp("local")
    archive = make_mvtec(folder / "archive", groups=("b",), normal=6)
    config = tiny_config(folder, archive, scheduler)
    pd.fit(config)
    pd.score(config)
    return archive, config


def options(url: str) -> dict[str, dict[str, object]]:
    return {"s3": {"endpoint_url": url}}


def bucket(server: tuple[str, int], archive: Path, name: str) -> fsspec.AbstractFileSystem:
    """A new bucket with a copy of the archive."""
    fs = fsspec.filesystem("s3", **options(f"http://{server[0]}:{server[1]}")["s3"])
    fs.mkdir(name)
    fs.put(f"{archive}/", f"{name}/photos/", recursive=True)
    return fs


def in_bucket(tmp_path: Path, scheduler: str, name: str, url: str, **changes: object) -> Config:
    return tiny_config(
        tmp_path,
        Path(),
        scheduler,
        workspace=f"s3://{name}/audit",
        storage_options=options(url),
        **{"archive": {"url": f"s3://{name}/photos"}, **changes},
    )


def rows(config: Config) -> list[dict]:
    """Score rows without what says where they are."""
    table = pd.open_scores(config.workspace, config.storage_options).to_arrow_table()
    keep = ("status", "error", "group", "label", "score", "peak_y", "peak_x", "width", "height")
    found = [{name: row[name] for name in keep} for row in table.to_pylist()]
    return sorted(found, key=str)


def test_s3_gives_what_the_disk_gives(tmp_path, server, local, scheduler):
    """And the credentials, which the workers have in their environment, are written nowhere."""
    archive, on_disk = local
    fs = bucket(server, archive, "sound")
    config = in_bucket(tmp_path, scheduler, "sound", f"http://{server[0]}:{server[1]}")
    pd.index(config)
    pd.fit(config)
    pd.score(config)
    assert rows(config) == rows(on_disk)
    again = pd.score(config)
    assert (again.scored, again.resumed) == (0, 17)
    assert pd.evaluate(config).groups == pd.evaluate(on_disk).groups
    model = pd.open_model(config.workspace, config.storage_options)
    reference = pd.open_model(on_disk.workspace)
    assert (model.covariance(5, 6) == reference.covariance(5, 6)).all()
    heatmaps = pd.open_heatmaps(config.workspace, config.storage_options)
    assert heatmaps.padim.full().shape == (14, 64, 64)
    fs.invalidate_cache()
    written = {path: fs.cat_file(path) for path in fs.find("sound/audit")}
    assert len(written) > 50
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    assert not any(secret in data for data in written.values())


def test_a_failing_store_changes_nothing(tmp_path, server, local, scheduler):
    """Every twentieth request fails, in four ways: the same rows."""
    archive, on_disk = local
    bucket(server, archive, "failing")
    with FaultProxy(*server, share=0.05, seed=1) as proxy:
        config = in_bucket(tmp_path, scheduler, "failing", proxy.url)
        pd.fit(config)
        pd.score(config)
        assert proxy.faults.total() >= 10
        assert len(proxy.faults) == 4
        assert rows(config) == rows(on_disk)


def test_changed_and_missing_objects_are_rows(tmp_path, server, local, scheduler):
    archive, _ = local
    fs = bucket(server, archive, "changing")
    config = in_bucket(tmp_path, scheduler, "changing", f"http://{server[0]}:{server[1]}")
    pd.fit(config)
    fs.cp("changing/photos/b/test/spot/00.png", "changing/photos/b/test/good/00.png")
    fs.rm("changing/photos/b/test/good/01.png")
    assert pd.score(config).statuses == {
        "scored": 12,
        "unreadable": 3,
        "changed": 1,
        "missing": 1,
    }


def test_an_outage_ends_the_run_and_makes_no_rows(server, local, monkeypatch):
    archive, _ = local
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    bucket(server, archive, "outage")
    row = {"uri": "s3://outage/photos/b/test/good/00.png", "etag": None, "size": 0}
    with FaultProxy(*server, share=0.0, seed=1) as proxy:
        patience = RetryPolicy(attempts=2, first=0.01)
        impatient = {"config_kwargs": {"retries": {"max_attempts": 0}}}
        fetcher = ObjectFetcher({"s3": {**options(proxy.url)["s3"], **impatient}}, retry=patience)
        assert fetcher.fetch(row).startswith(b"\x89PNG")
        proxy.share, proxy.kinds = 1.0, ("busy", "reset", "short")
        with pytest.raises(RunError, match=r"the store of s3://outage/.* failed 2 times in a row"):
            fetcher.fetch(row)
        proxy.share = 0.0
        with pytest.raises(ImageError, match="missing"):
            fetcher.fetch({**row, "uri": row["uri"] + "x"})


@pytest.mark.parametrize("failures", range(1, 9))
def test_retries_grow_and_end(failures):
    policy = RetryPolicy(attempts=6, first=0.2, most=2.0)
    delays = [policy.delay(failures, draw) for draw in (0.0, 0.999)]
    if failures >= 6:
        assert delays == [None, None]
    else:
        assert delays[0] == 0.0
        assert delays[1] <= min(2.0, 0.2 * 2 ** (failures - 1))
