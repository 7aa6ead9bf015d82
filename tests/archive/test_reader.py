from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import pytest

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import TAIL, ImageRow, RefusedRow
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError, RunError
from tests.archive.rows import image_row
from tests.conftest import draw

READER = ImageReader(ObjectFetcher({}), InputGeometry((72, 72), (64, 64)), max_pixels=10**6)
READING = Reading(READER, requests=4, decoders=2)


def test_every_outcome_is_a_status(tmp_path):
    draw(tmp_path / "a.jpg", 1)
    good = READER.load(image_row(tmp_path / "a.jpg"))
    assert (good.status, good.width, good.height) == ("scored", 96, 80)
    assert good.pixels.shape == (3, 64, 64)
    assert READER.load(image_row(tmp_path / "gone.jpg")).status == "missing"
    assert READER.load(image_row(tmp_path / "a.jpg", group=None)).error.endswith("no group")
    (tmp_path / "folder.jpg").mkdir()
    assert READER.load(image_row(tmp_path / "folder.jpg")).status == "unavailable"
    changed = READER.load(image_row(tmp_path / "a.jpg", etag="another"))
    assert changed.status == "changed"
    assert "index the archive again" in changed.error
    large = READER.load(image_row(tmp_path / "a.jpg", length=10**9))
    assert large.status == "too_large"
    assert "1000000000 bytes are more than any image" in large.error
    refused = RefusedRow(image_row(tmp_path / "a.jpg"), "unreadable", "it kills")
    (outcome,) = read_ahead([refused], READING, 4)
    assert (outcome.row, outcome.status, outcome.error) == (refused.row, "unreadable", "it kills")


@pytest.fixture
def packed(tmp_path) -> list[ImageRow]:
    """Rows of five images in one file, with other bytes between them."""
    content, rows = b"head", []
    for i in range(5):
        draw(tmp_path / f"{i}.png", i)
        data = (tmp_path / f"{i}.png").read_bytes()
        rows.append({"member": f"{i}.png", "offset": len(content), "length": len(data)})
        content += data + bytes(100)
    (tmp_path / "all.tar").write_bytes(content)
    return [image_row(tmp_path / "all.tar", **{**r, "size": len(content)}) for r in rows]


def test_members_equal_their_files(tmp_path, packed):
    for i, image in enumerate(read_ahead(packed, READING, 8)):
        alone = READER.load(image_row(tmp_path / f"{i}.png"))
        assert (image.pixels == alone.pixels).all()
        assert (READER.load(packed[i]).pixels == alone.pixels).all()


def test_a_damaged_member_harms_no_neighbour(packed):
    packed[2] = replace(packed[2], length=50)
    packed[3] = replace(packed[3], length=packed[3].size)
    packed.insert(4, replace(packed[4], length=0))
    packed.append(replace(packed[4], member=TAIL))
    images = list(read_ahead(packed, READING, 8))
    assert [image.status for image in images] == [
        "scored",
        "scored",
        "unreadable",
        "unreadable",
        "unreadable",
        "scored",
        "unreadable",
    ]
    assert "bytes and ends inside this member" in str(images[3].error)
    assert images[4].error == "the file is empty"
    assert "damaged from byte" in str(images[6].error)
    gone = [replace(r, etag="other") for r in packed[:2]]
    assert [i.status for i in read_ahead(gone, READING, 8)] == ["changed", "changed"]
    gone = [replace(r, uri=r.uri + "x") for r in packed[:2]]
    assert [i.status for i in read_ahead(gone, READING, 8)] == ["missing", "missing"]


def test_a_mask_inside_a_tar(tmp_path):
    draw(tmp_path / "mask.png", 3)
    data = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "x.tar").write_bytes(bytes(77) + data)
    whole = READER.load_mask(str(tmp_path / "mask.png"))
    inside = READER.load_mask(f"{tmp_path}/x.tar#bytes=77-{77 + len(data)}")
    assert (whole == inside).all()


@dataclass(frozen=True)
class GatedFetcher(ObjectFetcher):
    """Answers when its gate opens, and records the requests."""

    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    asked: list[str] = field(default_factory=list)
    full: threading.Event = field(default_factory=threading.Event)
    enough: int = 0

    def fetch(self, request: Request) -> list[bytes]:
        self.asked.append(request.uri)
        if len(self.asked) == self.enough:
            self.full.set()
        assert self.gate.acquire(timeout=30), "the gate stayed closed for 30 s"
        return [b"no image"] * len(request.rows)


@pytest.mark.parametrize(
    ("requests", "depth", "budget", "ahead"),
    [(4, 100, 10**9, 4), (50, 7, 10**9, 7), (50, 100, 3500, 3), (50, 100, 10, 1)],
)
def test_reading_ahead_is_in_order_and_bounded(requests, depth, budget, ahead):
    """The bounds are requests, images and bytes; one request is always in flight."""
    fetcher = GatedFetcher({}, enough=ahead)
    reader = replace(READER, fetcher=fetcher)
    rows = [image_row(f"{i:02d}", length=1000) for i in range(60)]
    images = read_ahead(rows, Reading(reader, requests, decoders=2), depth, budget)
    first: list = []
    taker = threading.Thread(target=lambda: first.append(next(images)))
    taker.start()
    assert fetcher.full.wait(30), fetcher.asked  # this many are asked for before the first answer
    fetcher.gate.release()
    taker.join(30)
    assert len(fetcher.asked) <= ahead + 2
    for _ in rows:
        fetcher.gate.release()
    names = [image.row.uri for image in (*first, *images)]
    assert names == [row.uri for row in rows]


def test_an_error_while_reading_reaches_the_consumer():
    class Failing(ObjectFetcher):
        def fetch(self, request: Request) -> list[bytes]:
            if request.uri == "3":
                raise RunError("the store is gone")
            raise ImageError("missing", "not there")

    reader = replace(READER, fetcher=Failing({}))
    images = read_ahead([image_row(i) for i in range(99)], Reading(reader, 2, 2), 4)
    assert [next(images).status for _ in range(3)] == ["missing"] * 3
    with pytest.raises(RunError, match="the store is gone"):
        list(images)
