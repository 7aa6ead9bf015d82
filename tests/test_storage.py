from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from threading import Event

import pytest

from padim_dist.storage import Folder


@pytest.fixture(params=["file", "memory"])
def place(request, tmp_path) -> Folder:
    return Folder(str(tmp_path / "deep/er") if request.param == "file" else f"memory:/{tmp_path}")


def test_put_read_list(place):
    place.put("a/b.json", b'{"x": 1}')
    place.put("a/b.json", b'{"x": 2}')
    assert place.read_json("a/b.json") == {"x": 2}
    assert place.list("a") == ["b.json"]
    assert place.list("nothing") == []
    assert place.exists("a/b.json")
    assert not place.exists("a/c.json")
    with pytest.raises(FileNotFoundError):
        place.read("a/c.json")


def test_a_folder_goes_although_others_write_into_it_and_remove_it(place):
    """A task of a killed fit may still be at work."""
    stop = Event()

    def write() -> None:
        for number in count():
            with suppress(FileNotFoundError):  # its folder went while it wrote
                place.put(f"model/{number % 7}/{number}", b"x")
            if stop.is_set():
                return

    with ThreadPoolExecutor() as pool:
        place.put("model/a", b"x")
        place.put("kept", b"x")
        writer = pool.submit(write)
        removers = [pool.submit(place.remove_tree, "model") for _ in range(2)]
        stop.set()
        writer.result(timeout=60)
        for remover in removers:
            remover.result(timeout=60)
    place.remove_tree("model")
    assert place.list() == ["kept"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    folder.put("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.put("a", b"new")
    assert folder.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_urls_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folder("x/").url == f"{tmp_path}/x"
    assert Folder(f"file://{tmp_path}").url == str(tmp_path)
    assert Folder("s3://bucket/a/").url == "s3://bucket/a"


@pytest.mark.parametrize("url", ["local", "memory://create"])
def test_of_many_writers_one_creates_the_file(tmp_path, url):
    folder = Folder(str(tmp_path) if url == "local" else url)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: folder.create("a/b.json", b"%d" % i), range(32)))
    if url == "local":  # memory:// is of one process, and checks before it writes
        assert made.count(True) == 1
        assert folder.read("a/b.json") == b"%d" % made.index(True)
    assert folder.create("a/b.json", b"later") is False
    assert folder.read("a/b.json") != b"later"
    assert folder.list("a") == ["b.json"]
    folder.remove("a/b.json")
    folder.remove("a/b.json")
    assert folder.create("a/b.json", b"new") is True


def test_without_links_a_file_is_still_created(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    folder = Folder(str(tmp_path))
    assert folder.create("b.json", b"first") is True
    assert folder.create("b.json", b"second") is False
    assert folder.read("b.json") == b"first"
