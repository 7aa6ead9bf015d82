"""A pipeline on an S3 server with faults. What all stores have in common: tests/stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

import padim_dist as padim
from padim_dist.archive.reading.objects import ObjectFetcher, RetryPolicy, _check
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow
from padim_dist.config import Config
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Body
from tests.archive.rows import image_row
from tests.conftest import make_mvtec, tiny_config
from tests.results import rows
from tests.s3.proxy import FAULTS, FaultProxy

# HTTP clients leave connections open when their server stops.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def local(tmp_path_factory, scheduler) -> tuple[Path, Config]:
    """An archive on disk and its audit, to compare S3 with."""
    folder = tmp_path_factory.mktemp("local")
    archive = make_mvtec(folder / "archive", groups=("b",), normal=6)
    config = tiny_config(folder, archive, scheduler)
    padim.fit(config)
    padim.score(config)
    return archive, config


def options(url: str) -> dict[str, dict[str, object]]:
    return {"s3": {"endpoint_url": url}}


def bucket(server: tuple[str, int], archive: Path, name: str) -> fsspec.AbstractFileSystem:
    """Make a bucket with a copy of the archive."""
    fs = fsspec.filesystem("s3", **options(f"http://{server[0]}:{server[1]}")["s3"])
    if fs.exists(name):
        fs.rm(name, recursive=True)
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


def test_a_failing_store_changes_nothing(tmp_path, server, local, scheduler):
    """One request in twenty fails, in many ways: the same rows."""
    archive, on_disk = local
    bucket(server, archive, "failing")
    with FaultProxy(*server, share=0.05, seed=1) as proxy:
        config = in_bucket(tmp_path, scheduler, "failing", proxy.url)
        padim.fit(config)
        padim.score(config)
        assert proxy.faults.total() >= 10
        assert len(proxy.faults) >= 4
        assert rows(config) == rows(on_disk)


@pytest.fixture
def proxied(
    server, local, monkeypatch
) -> Iterator[tuple[FaultProxy, ObjectFetcher, ImageRow, bytes]]:
    """A faulty server, a fetcher with short timeouts, a row, and its expected bytes."""
    archive, _ = local
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    fs = bucket(server, archive, "proxied")
    with FaultProxy(*server) as proxy:
        patience = RetryPolicy(attempts=4, first=0.01)
        impatient = {"config_kwargs": {"retries": {"max_attempts": 0}}}
        given = {"s3": {**options(proxy.url)["s3"], **impatient}}
        fetcher = ObjectFetcher(given, "s3://proxied/photos", deadline=4.0, retry=patience)
        path = archive / "b/test/good/00.png"
        info = fs.info("proxied/photos/b/test/good/00.png")
        etag = info["ETag"].strip('"')
        row = image_row("s3://proxied/photos/b/test/good/00.png", info["size"], etag=etag)
        yield proxy, fetcher, row, path.read_bytes()


def whole(row: ImageRow) -> Request:
    return Request(row.uri, (row,))


@pytest.mark.parametrize("kind", [*FAULTS, "stall", "corrupt"])
def test_every_fault_is_survived(proxied, kind):
    """One faulty answer, then correct ones: the right bytes."""
    proxy, fetcher, row, body = proxied
    assert fetcher.fetch(whole(row)) == [body]
    proxy.kinds, proxy.share = (kind,), 1.0
    fail_once(proxy)
    if kind == "stall":  # the attempt takes the whole deadline; `read_ahead` makes a second one
        fetcher = replace(fetcher, deadline=0.5)
        with pytest.raises(ImageError, match=r"timeout: .* archive\.read_deadline"):
            fetcher.fetch(whole(row))
    assert fetcher.fetch(whole(row)) == [body]
    assert proxy.faults == {kind: 1}
    fail_once(proxy)
    inside = replace(row, member="x", offset=5, length=20)
    if kind not in ("corrupt", "stall"):  # a range has no checksum of its own
        assert fetcher.fetch(Request(row.uri, (inside,), 5, 25)) == [body[5:25]]
        assert proxy.faults == {kind: 2}


def fail_once(proxy: FaultProxy) -> None:
    """Let only the next request fail."""
    draws = iter([0.0])
    proxy._random.random = lambda: next(draws, 1.0)
    proxy.share = 0.5


def test_a_body_must_match_the_checksum_or_arrive_twice():
    """Some stores' etags only look like an MD5; the same fault does not happen twice."""
    right = Body(b"body", "tag", hashlib.md5(b"body").hexdigest())
    wrong, other = replace(right, data=b"bodx"), replace(right, data=b"bxdy")
    bodies: list[str] = []
    for body in (wrong, other, wrong):
        with pytest.raises(ConnectionError, match="the body has MD5"):
            _check(body, bodies)
    _check(wrong, bodies)
    _check(right, [])
    _check(replace(wrong, md5=None), [])


def test_a_store_whose_etags_are_not_checksums_is_accepted(proxied):
    """The same body twice, from a store that sends no checksum apart from the etag."""
    proxy, fetcher, row, body = proxied
    fetcher.options["s3"]["config_kwargs"]["response_checksum_validation"] = "when_required"
    proxy.kinds, proxy.share = ("corrupt",), 1.0
    (spoiled,) = fetcher.fetch(whole(row))
    assert spoiled[1:] == body[1:]
    # s3fs; then obstore, whose body s3fs reads once more.
    assert proxy.faults == {"corrupt": 3}


def test_an_outage_ends_the_run_and_makes_no_rows(proxied):
    proxy, fetcher, row, _ = proxied
    proxy.share, proxy.kinds = 1.0, ("busy", "reset", "short")
    with pytest.raises(RunError, match=r"its store is ill: s3://proxied/photos cannot"):
        fetcher.fetch(whole(row))
    proxy.kinds = ("stall",)
    with pytest.raises(RunError, match="its store is ill"):
        replace(fetcher, deadline=0.2).fetch(whole(row))
    proxy.share = 0.0
    with pytest.raises(ImageError, match="missing"):
        fetcher.fetch(whole(replace(row, uri=row.uri + "x")))
    shrunk = replace(row, member="x", offset=10**6, length=5, etag=None)
    with pytest.raises(ImageError, match="changed: the object is shorter"):
        fetcher.fetch(Request(row.uri, (shrunk,), 10**6, 10**6 + 5))


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchBucket"), (404, "NoSuchKey"), (503, "SlowDown")],
)
def test_a_store_that_refuses_everything_is_ill(proxied, status, code):
    """Whether or not an object was read before."""
    proxy, fetcher, row, body = proxied
    assert fetcher.fetch(whole(row)) == [body]
    proxy.refuse(status, code)
    with pytest.raises(RunError, match="its store is ill"):
        fetcher.fetch(whole(replace(row, uri=row.uri + "x")))
    proxy.refuse(None)
    with pytest.raises(ImageError, match="missing"):
        fetcher.fetch(whole(replace(row, uri=row.uri + "x")))


def test_an_object_that_trickles_is_late_and_others_are_not(proxied):
    proxy, fetcher, row, _ = proxied
    other = replace(row, uri=row.uri.replace("00.png", "01.png"), etag=None, length=0, size=0)
    assert len(fetcher.fetch(whole(other))) == 1
    proxy.slow = "00.png"
    with pytest.raises(ImageError, match="timeout"):
        replace(fetcher, deadline=0.5).fetch(whole(row))
    assert len(fetcher.fetch(whole(other))) == 1


@pytest.mark.parametrize("failures", range(1, 9))
def test_retries_grow_and_end(failures):
    policy = RetryPolicy(attempts=6, first=0.2, most=2.0)
    delays = [policy.delay(failures, draw) for draw in (0.0, 0.999)]
    if failures >= 6:
        assert delays == [None, None]
    else:
        assert delays[0] == 0.0
        assert delays[1] <= min(2.0, 0.2 * 2 ** (failures - 1))
