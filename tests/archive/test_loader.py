"""Turns of several images: order, deadlines and errors are those of single ones."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.loading import turns
from padim_dist.archive.reading.loading.loader import Loader
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import _here, given_up, timed_part
from padim_dist.archive.rows import ImageRow
from padim_dist.core.status import CHANGED, SCORED, TIMEOUT
from padim_dist.errors import ImageError, RunError
from tests.archive.rows import image_row
from tests.archive.test_reader import READER
from tests.conftest import draw

DEADLINE = 600.0
"""Seconds that no image takes, on any machine, unless its call is put back in time."""
ROWS = 24


@pytest.fixture
def archive(tmp_path) -> str:
    """Return an archive whose first images were read so fast that a turn has several."""
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


@contextmanager
def overdue() -> Iterator[None]:
    """Let the call of this thread have begun very long ago."""
    with timed_part():
        _here.call.began -= 2 * DEADLINE
        yield


@dataclass(frozen=True)
class StubbornFetcher(ObjectFetcher):
    """Its first read of one object does not end before the gate opens, and is late or not.

    Or it raises.
    """

    stuck: str = ""
    error: Exception | None = None
    illness: str | None = None
    is_late: bool = False
    begun: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def fetch(self, request: Request) -> list[bytes]:
        name = request.uri.rpartition("/")[2]
        self.asked.append(name)
        if name == self.stuck and self.error:
            raise self.error
        if name == self.stuck and self.asked.count(name) == 1:
            self.begun.set()
            with overdue() if self.is_late else timed_part():
                assert self.gate.wait(30)
        return super().fetch(request)

    def give_up(self, request: Request) -> ImageError:
        if self.illness:
            raise RunError(self.illness)
        return super().give_up(request)


@dataclass(frozen=True)
class ChangedFetcher(ObjectFetcher):
    """Each object has changed; it knows which of its errors are alive."""

    made: list[weakref.ref[ImageError]] = field(default_factory=list)

    def fetch(self, request: Request) -> list[bytes]:
        raise self._error()

    def _error(self) -> ImageError:
        error = ImageError(CHANGED, "another object")
        self.made.append(weakref.ref(error))
        return error


@dataclass(frozen=True)
class StubbornReader(ImageReader):
    """Its decoding of some images does not end before the gate opens."""

    stuck: tuple[str, ...] = ()
    gate: threading.Event = field(default_factory=threading.Event)

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        if row.uri.endswith(self.stuck):
            with overdue():
                assert self.gate.wait(30)
        return super().decode(row, data)


@dataclass(frozen=True)
class WatchedReader(ImageReader):
    """It knows which of its images are alive."""

    made: list[weakref.ref[LoadedImage]] = field(default_factory=list)

    def decode(self, row: ImageRow, data: bytes | ImageError) -> LoadedImage:
        image = super().decode(row, data)
        self.made.append(weakref.ref(image))
        return image

    def alive(self) -> int:
        return sum(one() is not None for one in self.made)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Objects are freed by the number of their references alone."""
    gc.disable()
    yield
    gc.enable()


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
        first = [threads._turns[item] for item in items[:wanted]]
        assert all(turn is first[0] for turn in first)
        assert threads._turns[items[wanted]] is not first[0]
        assert [threads.result(item).status for item in items] == [SCORED] * ROWS
        threads.close()


@pytest.mark.usefixtures("no_collector")
def test_memory_does_not_grow_with_the_images_that_were_taken(archive, rows):
    settings = {**vars(READER), "fetcher": ObjectFetcher({}, archive)}
    reader, rows, depth = WatchedReader(**settings), rows * 8, 32
    images = read_ahead(rows, Reading(reader, requests=2, decoders=1), depth)
    most = max(reader.alive() for _ in images)
    assert len(reader.made) == len(rows)
    assert most <= depth + 8  # and one turn


@pytest.mark.usefixtures("no_collector")
def test_nothing_holds_the_error_of_a_read(archive, rows):
    fetcher = ChangedFetcher({}, archive)
    images = load(replace(READER, fetcher=fetcher), rows)
    assert {image.status for image in images} == {CHANGED}
    assert len(fetcher.made) == ROWS
    assert not any(one() for one in fetcher.made)


def test_decoding_that_does_not_end_costs_its_image_alone(archive, rows):
    settings = {**vars(READER), "fetcher": ObjectFetcher({}, archive), "deadline": DEADLINE}
    reader, before = StubbornReader(**settings, stuck=("/10.jpg", "/12.jpg")), given_up()
    images = load(reader, rows)
    assert given_up() == before + 2  # so that the process can be replaced
    reader.gate.set()
    late = [image for i, image in enumerate(images) if i in (10, 12)]
    assert [(image.status, image.pixels) for image in late] == [(TIMEOUT, None)] * 2
    assert {image.status for image in images if image not in late} == {SCORED}


def test_a_read_that_does_not_end_is_made_again_without_its_neighbours(archive, rows):
    fetcher = StubbornFetcher({}, archive, deadline=DEADLINE, stuck="10.jpg", is_late=True)
    images = load(replace(READER, fetcher=fetcher), rows)
    fetcher.gate.set()
    assert {image.status for image in images} == {SCORED}
    assert sorted(fetcher.asked) == sorted([*(f"{i:02d}.jpg" for i in range(ROWS)), "10.jpg"])


def test_the_first_of_two_answers_counts(archive, rows):
    fetcher = StubbornFetcher({}, archive, stuck="00.jpg")
    threads = Loader(replace(READER, fetcher=fetcher), 2, 1, 8)
    items = [item for row in rows[:8] for step in READER.plan([row]) for item in threads.load(step)]
    for uri in (
        rows[1].uri,
        rows[2].uri,
    ):  # a read that was given up answers, and the one made in its place, too
        with open(uri, "rb") as file:
            threads._set(items[:1], [file.read()])
    fetcher.gate.set()
    images = [threads.result(item) for item in items]
    assert [image.status for image in images] == [SCORED] * 8
    wanted = READER.load(rows[1])
    assert (images[0].pixels == wanted.pixels).all()
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
    assert fetcher.begun.wait(30)
    images.close()
    fetcher.gate.set()
    assert_ended([thread for thread in threads() if thread not in before])
    assert "11.jpg" not in fetcher.asked  # nobody waits for the rest of its turn


def test_an_ill_store_leaves_no_thread_that_decodes(archive, rows):
    before = threads()
    late = {"deadline": DEADLINE, "stuck": "10.jpg", "is_late": True}
    fetcher = StubbornFetcher({}, archive, **late, illness="it is ill")
    images = read_ahead(rows, Reading(replace(READER, fetcher=fetcher), 2, 1), depth=32)
    with pytest.raises(RunError, match="it is ill"):
        list(images)
    own = [thread for thread in threads() if thread not in before]
    assert_ended([thread for thread in own if thread.name == "reader"])
    fetcher.gate.set()
    assert_ended(own)


def assert_ended(some: list[threading.Thread]) -> None:
    for thread in some:
        thread.join(30)
        assert not thread.is_alive()
