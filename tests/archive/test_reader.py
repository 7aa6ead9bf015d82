from __future__ import annotations

import threading

import pytest

from padim_dist.archive.objects import ObjectFetcher
from padim_dist.archive.reader import ImageReader, read_ahead
from padim_dist.core.geometry import InputGeometry
from tests.conftest import draw

READER = ImageReader(ObjectFetcher({}), InputGeometry((72, 72), (64, 64)), max_pixels=10**6)


def row(path, length: int = 0, group: str | None = "a") -> dict:
    return {"uri": str(path), "length": length, "size": length, "etag": None, "group": group}


def test_every_outcome_is_a_status(tmp_path):
    draw(tmp_path / "a.jpg", 1)
    good = READER.load(row(tmp_path / "a.jpg"))
    assert (good.status, good.width, good.height) == ("scored", 96, 80)
    assert good.pixels.shape == (3, 64, 64)
    assert READER.load(row(tmp_path / "gone.jpg")).status == "missing"
    assert READER.load(row(tmp_path / "a.jpg", group=None)).error.endswith("no group")
    (tmp_path / "folder.jpg").mkdir()
    assert READER.load(row(tmp_path / "folder.jpg")).status == "unreadable"
    changed = READER.load({**row(tmp_path / "a.jpg"), "etag": "another"})
    assert changed.status == "changed"
    assert "index the archive again" in changed.error
    large = READER.load(row(tmp_path / "a.jpg", length=10**9))
    assert large.status == "too_large"
    assert "1000000000 bytes are more than any image" in large.error


def test_reading_ahead_is_in_order_and_bounded():
    gate, started = threading.Event(), []

    def load(i: int) -> int:
        started.append(i)
        gate.wait(10)
        return i * i

    results = read_ahead(range(50), load, threads=2, depth=5)
    gate.set()
    assert next(results) == 0
    assert max(started) <= 6
    assert list(results) == [i * i for i in range(1, 50)]


def test_what_reading_raises_reaches_the_consumer():
    def load(i: int) -> int:
        if i == 3:
            raise MemoryError("no more")
        return i

    with pytest.raises(MemoryError, match="no more"):
        list(read_ahead(range(9), load, 2, 4))
