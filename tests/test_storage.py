from __future__ import annotations

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
