"""Whose fault a failed read is, and reads and decodes that do not end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from padim_dist.archive.reading import witness
from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.objects import ObjectFetcher, RetryPolicy
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import given_up
from padim_dist.bodies import Body
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Folder
from tests.archive.rows import image_row
from tests.conftest import draw
from tests.processes import wait_until

COUNT = 6
Read = Callable[[str], None]


@pytest.fixture
def archive(tmp_path) -> Path:
    root = tmp_path / "archive"
    for i in range(COUNT):
        draw(root / f"{i}.png", i)
    return root


@pytest.fixture
def fetcher(archive) -> Iterator[ObjectFetcher]:
    """A fetcher in a process that has read nothing yet."""
    witness._seen.clear()
    hasty = RetryPolicy(attempts=4, first=0.001)
    others = tuple(str(archive / f"{i}.png") for i in (1, 4))
    yield ObjectFetcher({}, str(archive), 20.0, others, hasty)
    witness._seen.clear()


def spoil(monkeypatch: pytest.MonkeyPatch, fail: Read) -> None:
    """Call `fail` with the name of each file before it is read."""
    usual = Folder.read_body

    def read(self: Folder, name: str, *more: object) -> Body:
        fail(name)
        return usual(self, name, *more)

    monkeypatch.setattr(Folder, "read_body", read)


def raise_for(names: set[str], code: int) -> Read:
    def fail(name: str) -> None:
        if name in names:
            raise OSError(code, os.strerror(code))

    return fail


def fetch(fetcher: ObjectFetcher, path: Path) -> bytes:
    (data,) = fetcher.fetch(Request(str(path), (image_row(path),)))
    return data


STATUSES = {
    errno.EIO: "unavailable",
    errno.EACCES: "unavailable",
    errno.ENOENT: "missing",
    errno.ESTALE: "unavailable",
    errno.ELOOP: "unavailable",
    errno.ENOTDIR: "missing",
}
ALL = {f"{i}.png" for i in range(COUNT)}


@pytest.mark.parametrize("code", STATUSES)
@pytest.mark.parametrize("first", [0, 1])
def test_one_object_fails(monkeypatch, archive, fetcher, code, first):
    """It is a row, whether or not the process has read another object before."""
    spoil(monkeypatch, raise_for({"3.png"}, code))
    for i in range(first):
        fetch(fetcher, archive / f"{i}.png")
    with pytest.raises(ImageError) as caught:
        fetch(fetcher, archive / "3.png")
    assert caught.value.status == STATUSES[code]
    assert fetch(fetcher, archive / "5.png") == (archive / "5.png").read_bytes()


@pytest.mark.parametrize("code", STATUSES)
@pytest.mark.parametrize("first", [0, 1])
def test_every_object_fails(monkeypatch, archive, fetcher, code, first):
    """It is no row; but all objects may have been deleted, if the archive's folder is there."""
    for i in range(first):
        fetch(fetcher, archive / f"{i}.png")
    spoil(monkeypatch, raise_for(ALL, code))
    kind = ImageError if code == errno.ENOENT else RunError
    with pytest.raises(
        kind, match="missing" if kind is ImageError else "its store is ill: .* eith"
    ):
        fetch(fetcher, archive / "3.png")


def test_an_unmounted_share_leaves_an_empty_folder(archive, fetcher):
    archive.rename(archive.with_name("elsewhere"))
    with pytest.raises(RunError, match="No such file"):
        fetch(fetcher, archive / "3.png")
    archive.mkdir()
    with pytest.raises(RunError, match="the folder is empty"):
        fetch(fetcher, archive / "3.png")


def test_a_share_that_comes_back_is_waited_for(monkeypatch, archive, fetcher):
    failures = iter([OSError(errno.EIO, "x")] * 6)

    def fail(name: str) -> None:
        if error := next(failures, None):
            raise error

    fetch(fetcher, archive / "0.png")
    spoil(monkeypatch, fail)
    assert fetch(fetcher, archive / "3.png") == (archive / "3.png").read_bytes()


def test_an_object_that_became_a_pipe_is_not_waited_for(archive, fetcher):
    (archive / "3.png").unlink()
    os.mkfifo(archive / "3.png")
    with pytest.raises(
        ImageError, match=r"unavailable: .*it is a pipe, socket or device, not a file"
    ):
        fetch(fetcher, archive / "3.png")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets what a test holds up go on, and waits for its threads."""
    event = threading.Event()
    yield event
    event.set()
    wait_until(lambda: given_up() == 0, step=0.01)


def reading(fetcher: ObjectFetcher, seconds: float) -> Reading:
    fetcher = replace(fetcher, deadline=seconds)
    geometry = InputGeometry((72, 72), (64, 64))
    return Reading(ImageReader(fetcher, geometry, 10**6, deadline=seconds), 3, 2)


def statuses(archive: Path, reading: Reading) -> list[str]:
    rows = [image_row(archive / f"{i}.png") for i in range(COUNT)]
    return [image.status for image in read_ahead(rows, reading, 4)]


def test_a_read_that_does_not_end_is_a_row(monkeypatch, archive, fetcher, release):
    """A second attempt does not end either. The threads are given up, the others go on."""
    begun = []

    def hang(name: str) -> None:
        if name == "2.png":
            begun.append(name)
            release.wait(60)

    spoil(monkeypatch, hang)
    found = statuses(archive, reading(fetcher, 0.2))
    assert found == ["scored", "scored", "timeout", "scored", "scored", "scored"]
    assert (len(begun), given_up()) == (2, 2)
    outcome = reading(fetcher, 0.2).reader.load(image_row(archive / "2.png"))
    assert (outcome.status, given_up()) == ("timeout", 3)


def test_more_reads_that_do_not_end_than_threads(monkeypatch, archive, fetcher, release):
    """The second attempt at the first of them waits behind the others."""
    spoil(monkeypatch, lambda name: release.wait(60) if name != "0.png" else None)
    known = replace(fetcher, witnesses=(str(archive / "0.png"),))
    found = statuses(archive, reading(known, 0.1))
    assert found == ["scored", *["timeout"] * (COUNT - 1)]


def test_another_store_is_no_witness(monkeypatch, archive, fetcher):
    """A table may name objects of several stores."""
    fs = fsspec.filesystem("memory")
    fs.pipe("/elsewhere/a.png", b"a")
    other = replace(fetcher, witnesses=("memory://elsewhere/a.png", str(archive / "1.png")))
    spoil(monkeypatch, raise_for(ALL, errno.EIO))
    with pytest.raises(RunError, match="its store is ill"):
        fetch(other, archive / "3.png")


def test_a_decode_that_does_not_end_is_a_row(monkeypatch, archive, fetcher, release):
    from padim_dist.archive.reading import reader

    usual, bad = reader.decode_for, (archive / "2.png").read_bytes()

    def hang(data: bytes, *more: object) -> object:
        if data == bad:
            release.wait(60)
        return usual(data, *more)

    monkeypatch.setattr(reader, "decode_for", hang)
    found = statuses(archive, reading(fetcher, 2.0))
    assert found == ["scored", "scored", "timeout", "scored", "scored", "scored"]
    assert given_up() == 1


def test_a_store_that_does_not_answer_ends_the_run(monkeypatch, archive, fetcher, release):
    spoil(monkeypatch, lambda _: release.wait(60))
    with pytest.raises(RunError, match=r"its store is ill: .*no answer"):
        statuses(archive, reading(fetcher, 0.1))
