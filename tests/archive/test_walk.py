"""The walk: every file once, for any name and any folder."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from padim_dist.archive.listing.walk import File, in_threads, walk
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder
from tests.s3.moto import moto_server

ODD = ("a b+%20.jpg", "'\"`$.jpg", "😀/ü.jpg", "u\u0308.jpg", "#?&=.jpg", "x::y.jpg", "~", "x..jpg")


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, dict[str, object]]]:
    with moto_server() as (host, port):
        yield {"s3": {"endpoint_url": f"http://{host}:{port}"}}


def bucket(options: dict[str, dict[str, object]], name: str, keys: list[str]) -> Folder:
    """Return the folder of a new bucket with objects of exactly these names."""
    fs = fsspec.filesystem("s3", **options["s3"])
    fs.mkdir(name)
    for key in keys:
        fs.call_s3("put_object", Bucket=name, Key=key, Body=b"" if key[-1] == "/" else key.encode())
    return Folder(f"s3://{name}/photos", options)


def look(
    archive: Folder, threads: int = 4, workspace: str | None = None
) -> tuple[dict[str, File], Counter[str]]:
    """Return files by path, each once, and counts of ignored files."""
    files: dict[str, File] = {}
    ignored: Counter[str] = Counter()
    for page in walk(archive, threads, workspace):
        assert not files.keys() & {file.path for file in page.files}
        files.update({file.path: file for file in page.files})
        ignored.update(page.ignored)
    return files, ignored


def read(archive: Folder, file: File) -> tuple[bytes, str | None]:
    """Read a file as a worker does, given only its URL."""
    folder, _, name = archive.at(file.path).rpartition("/")
    body = Folder(folder, archive.options).read_body(name)
    return body.data, body.tag


def test_local_files_with_odd_names(tmp_path):
    names = [*ODD, "line\nbreak.jpg", "back\\slash.jpg", "q::r/deep/x.jpg", "*?[a].jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe.jpg")
    archive = Folder(str(tmp_path))
    files, ignored = look(archive)
    assert set(files) == set(names)
    assert ignored == {"devices, pipes and sockets": 1}
    for name, file in files.items():
        assert read(archive, file) == (name.encode(), file.tag)
        assert file.size == len(name.encode())


def test_many_local_files_in_many_folders(tmp_path):
    wide = {f"wide/{i:04d}.jpg" for i in range(2500)}
    deep = {f"{'/'.join('abcdefgh'[:n])}/{n}.jpg" for n in range(1, 9)}
    many = {f"many/{i:04d}/x.jpg" for i in range(1200)}
    for name in wide | deep | many:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files, ignored = look(Folder(str(tmp_path)))
    assert set(files) == wide | deep | many
    assert not ignored


def test_a_folder_without_permission_is_counted(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.jpg").touch()
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if "closed" in path:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    files, ignored = look(Folder(str(tmp_path)))
    assert set(files) == {"open.jpg"}
    assert ignored == {"folders that cannot be opened": 1}


def test_any_other_store(tmp_path):
    archive = Folder(f"memory:/{tmp_path}")
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg"):
        archive.fs.pipe_file(archive.at(name), name.encode())
    files, ignored = look(archive)
    assert set(files) == {"a.jpg", "x/b.jpg", "x/y/c.jpg"}
    assert not ignored
    for name, file in files.items():
        assert read(archive, file)[0] == name.encode()


def test_s3_pages_and_prefixes(options, monkeypatch):
    """With more objects than a page of the store, and folders on every page."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "50")
    names = [f"{i:04d}{'/deep/er' if i % 20 == 0 else ''}.jpg" for i in range(120)]
    archive = bucket(options, "pages", [f"photos/{name}" for name in names] + ["other/x.jpg"])
    files, ignored = look(archive, threads=16)
    assert sum(bool(page.files) for page in walk(archive)) > 1 + len(names) // 20
    assert set(files) == set(names)
    assert not ignored


def test_s3_objects_with_odd_names(options):
    """Readable objects are listed with the tag that reading gives; the others are counted."""
    hidden = [".x/a.jpg", "x/._b.jpg", "@eaDir/c.jpg", "audit/nights/top.jpg"]
    names = [*ODD, "./c.jpg", "a/../b.jpg", "\x01\x7f.jpg"]
    lost = ["/d.jpg", "x//e.jpg", "v?versionId=3.jpg", "q::r/x.jpg"]
    markers = ["", "x/", "empty/"]
    archive = bucket(options, "odd", [f"photos/{name}" for name in names + lost + markers + hidden])
    files, ignored = look(archive, workspace="audit")
    assert set(files) == set(names)
    assert ignored == {
        "names that no URL can address": 4,
        "folder markers": 3,
        "hidden files": 1,
        "hidden folders, which are not listed": 1,
        "system folders, which are not listed": 1,
        "workspace inside the archive, which is not listed": 1,
    }
    for name, file in files.items():
        assert read(archive, file) == (f"photos/{name}".encode(), file.tag)
    below = {f"photos/{name}" for name in [*names, "audit/nights/top.jpg"]}
    assert set(look(Folder("s3://odd", options))[0]) == below


def test_a_store_that_cannot_be_listed_ends_the_listing(options):
    """It must not look like an archive with fewer images."""
    with pytest.raises(ArchiveError, match="never-made/photos/ cannot be listed"):
        list(walk(Folder("s3://never-made/photos", options)))


def test_threads_read_several_iterators_and_buffer_little():
    """Two sources run at once; the next one is taken only when one of them has ended."""
    together = threading.Barrier(2, timeout=20)
    taken: list[int] = []

    def source(number: int) -> Iterator[tuple[int, int]]:
        if number < 2:
            together.wait()
        yield from ((number, i) for i in range(3))

    def sources() -> Iterator[Iterator[tuple[int, int]]]:
        for number in range(4):
            taken.append(number)
            yield source(number)

    items = in_threads(sources(), 2)
    found = [next(items)]
    assert len(taken) == 2
    found += items
    assert sorted(found) == [(number, i) for number in range(4) for i in range(3)]


def test_an_error_in_a_thread_reaches_the_consumer(tmp_path: Path):
    def broken() -> Iterator[int]:
        yield 1
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(in_threads([broken(), iter(range(5))], 2))
