"""Turns of several images: order, deadlines and errors are those of single ones."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field, replace

import pytest

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.loading import turns
from padim_dist.archive.reading.loading.loader import Loader
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import timed_part
from padim_dist.archive.rows import ImageRow
from padim_dist.core.status import SCORED, TIMEOUT
from padim_dist.errors import ImageError, RunError
from tests.archive.rows import image_row
from tests.archive.test_reader import READER
from tests.conftest import draw

DEADLINE = 1.0
ROWS = 24


@pytest.fixture
def archive(tmp_path) -> str:
    """An archive of which a few images were read in no time."""
    name = str(tmp_path)
    pace = turns.pace_of(name)
    pace.reads.extend([1e-4] * 16)
    pace.decodes.extend([1e-4] * 16)
    yield name
    del turns._paces[name]


@pytest.fixture
def rows(tmp_path) -> list[ImageRow]:
    for i in range(ROWS):
        draw(tmp_path / f"{i:02d}.jpg", i)
    return [image_row(tmp_path / f"{i:02d}.jpg") for i in range(ROWS)]


@dataclass(frozen=True)
class StubbornFetcher(ObjectFetcher):
    """Its first read of one object does not end before the gate opens; or it raises."""

    stuck: str = ""
    error: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def fetch(self, request: Request) -> list[bytes]:
        name = request.uri.rpartition("/")[2]
        self.asked.append(name)
        if name == self.stuck and self.error:
            raise self.error
        if name == self.stuck and self.asked.count(name) == 1:
            with timed_part():
                assert self.gate.wait(30)
        return super().fetch(request)


@dataclass(frozen=True)
class StubbornReader(ImageReader):
    """Its decoding of one image does not end before the gate opens."""

    stuck: str = ""
    gate: threading.Event = field(default_factory=threading.Event)

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if row.uri.endswith(self.stuck):
            with timed_part():
                assert self.gate.wait(30)
        return super().decode(row, data)


def load(reader: ImageReader, rows: list[ImageRow]) -> list[LoadedImage]:
    """Load images by threads that have turns of eight."""
    images = [*read_ahead(rows, Reading(reader, requests=2, decoders=1), depth=32)]
    assert [image.row for image in images] == rows
    return images


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name in ("fetch", "reader")]


def test_fast_images_share_turns_and_slow_ones_do_not(archive, rows):
    reader = replace(READER, fetcher=ObjectFetcher({}, archive))
    for seconds, wanted in ((1e-4, 8), (0.001, 5), (0.02, 1)):
        pace = turns.pace_of(archive)
        pace.reads.extend([seconds] * 16)
        pace.decodes.extend([1e-4] * 16)
        threads = Loader(reader, 2, 1, 8)
        items = [item for row in rows for step in reader.plan([row]) for item in threads.load(step)]
        first = [item.turn for item in items[:wanted]]
        assert all(turn is first[0] for turn in first)
        assert items[wanted].turn is not first[0]
        assert [threads.result(item).status for item in items] == [SCORED] * ROWS
        threads.close()


def test_decoding_that_does_not_end_costs_its_image_alone(archive, rows):
    fetcher = ObjectFetcher({}, archive)
    gate = threading.Event()
    settings = {**vars(READER), "fetcher": fetcher, "deadline": DEADLINE}
    images = load(StubbornReader(**settings, stuck="/10.jpg", gate=gate), rows)
    gate.set()
    late = images.pop(10)
    assert (late.status, late.pixels) == (TIMEOUT, None)
    assert {image.status for image in images} == {SCORED}


def test_a_read_that_does_not_end_is_made_again_without_its_neighbours(archive, rows):
    fetcher = StubbornFetcher({}, archive, deadline=DEADLINE, stuck="10.jpg")
    images = load(replace(READER, fetcher=fetcher), rows)
    fetcher.gate.set()
    assert {image.status for image in images} == {SCORED}
    assert sorted(fetcher.asked) == sorted([*(f"{i:02d}.jpg" for i in range(ROWS)), "10.jpg"])


def test_the_first_of_two_answers_counts(archive, rows):
    fetcher = StubbornFetcher({}, archive, stuck="00.jpg")
    threads = Loader(replace(READER, fetcher=fetcher), 2, 1, 8)
    items = [item for row in rows[:8] for step in READER.plan([row]) for item in threads.load(step)]
    good = (rows[1].uri, rows[2].uri)
    for uri in good:  # a read that was given up answers, and the one made in its place, too
        with open(uri, "rb") as file:
            threads._set(items[:1], [file.read()])
    fetcher.gate.set()
    assert [threads.result(item).status for item in items] == [SCORED] * 8
    wanted = READER.load(rows[1])
    assert (threads.result(items[0]).pixels == wanted.pixels).all()
    threads.close()


def test_an_error_comes_after_the_images_before_it(archive, rows):
    ill = StubbornFetcher({}, archive, stuck="10.jpg", error=RunError("the store is ill"))
    images = read_ahead(rows, Reading(replace(READER, fetcher=ill), 2, 1), depth=32)
    assert [image.status for image in itertools.islice(images, 10)] == [SCORED] * 10
    with pytest.raises(RunError, match="the store is ill"):
        next(images)


def test_a_consumer_that_leaves_early_leaves_no_thread(archive, rows):
    before = threads()
    fetcher = StubbornFetcher({}, archive, stuck="10.jpg")
    images = read_ahead(rows, Reading(replace(READER, fetcher=fetcher), 2, 1), depth=32)
    assert next(images).status == SCORED
    images.close()
    fetcher.gate.set()
    for thread in threads():
        if thread not in before:
            thread.join(30)
            assert not thread.is_alive()
