"""Threads that fetch and decode images, several of them in one turn if that takes no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from padim_dist.archive.reading.film_loads import FilmLoad
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.loading.turns import (
    Fetch,
    Pending,
    Turn,
    images_in_a_turn,
    pace_of,
)
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import FilmRequest, Request, plan_requests
from padim_dist.archive.reading.threads import Call, Crew, await_any
from padim_dist.archive.rows import ImageRow
from padim_dist.core.status import TIMEOUT, UNAVAILABLE
from padim_dist.errors import ImageError

T = TypeVar("T")


class Loader:
    """Threads that fetch and decode, and the reads that are not finished.

    Parameters
    ----------
    reader : ImageReader
        Fetches and decodes.
    requests, decoders : int
        Number of concurrent requests, and of threads that decode.
    most : int
        The most images in a turn of a thread.
    """

    def __init__(self, reader: ImageReader, requests: int, decoders: int, most: int) -> None:
        self._reader, self._most, self._size = reader, most, 1
        self._fetching = Crew(requests, "fetch")
        self._decoding = Crew(decoders, "reader")
        self._others: list[Crew] = []
        self._pace = pace_of(reader.fetcher.archive)
        self._waiting: list[tuple[Request, list[Pending]]] = []
        self._fetches: dict[Fetch, None] = {}
        self._turns: dict[Pending, Turn] = {}  # of images that are not taken
        self._film: FilmLoad | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def load(self, step: Request | FilmRequest | LoadedImage) -> list[Pending]:
        """Begin to read and decode the rows of a request; other outcomes are done."""
        if isinstance(step, LoadedImage):
            return [Pending(step.row, outcome=step)]
        if isinstance(step, FilmRequest):
            self._begin_waiting()  # threads take turns in order
            return self._load_film(step)
        size = step.size // len(step.rows)
        items = [Pending(row, size) for row in step.rows]
        if not self._waiting:
            pace = self._pace
            self._size = images_in_a_turn([*pace.reads], [*pace.decodes], self._most)
        self._waiting.append((step, items))
        if sum(len(own) for _, own in self._waiting) >= self._size:
            self._begin_waiting()
        return items

    def result(self, item: Pending) -> LoadedImage:
        """Take an image, once: wait until it is there or has exceeded a deadline."""
        if item.frame and item.film:
            return self._frame(item, item.film, item.frame)
        if not item.is_done and item not in self._turns:
            self._begin_waiting()
        while not item.is_done:
            turn = self._turns[item]
            assert turn.call is not None
            call, at = turn.call, turn.at
            if not (call.is_overdue(self._reader.deadline) and self._give_up_decoding(turn, at)):
                self._wait(call.future, call)
        with self._lock:
            self._turns.pop(item, None)
        outcome, item.outcome = item.outcome, None
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            assert outcome is not None
            return outcome
        finally:
            del outcome  # an error's traceback holds this frame

    def close(self) -> None:
        """End the threads, and drop the images that were not taken."""
        with self._lock:
            self._is_closed = True
            for item, turn in self._turns.items():
                item.data = item.outcome = None
                turn.fetched.set()  # threads wait for reads that nobody makes any more
            self._turns.clear()
            self._fetches.clear()
        if self._film:
            self._film.end()
        for crew in (self._fetching, self._decoding, *self._others):
            crew.close()

    def _wait(self, future: Future[LoadedImage] | Future[None], call: Call[None] | None) -> None:
        """Wait for a result, for a moment; give up reads that have exceeded their deadline."""
        # Any of the reads: if all threads are blocked, the one that is waited for never begins.
        with self._lock:
            fetches = [*self._fetches]
        for fetch in fetches:
            self._end_overdue(fetch)
        await_any([future], [c for c in (*(fetch.call for fetch in fetches), call) if c])

    # Fetching

    def _begin_waiting(self) -> None:
        """Begin to read what waits for a turn."""
        requests, self._waiting = self._waiting, []
        if not requests:
            return
        items = [item for _, own in requests for item in own]
        pieces = (items[i : i + self._size] for i in range(0, len(items), self._size))
        turns = [Turn(piece, len(piece), self._decoding) for piece in pieces]
        with self._lock:
            self._turns.update((item, turn) for turn in turns for item in turn.items)
        self._begin(Fetch(requests))
        for turn in turns:
            self._submit(turn)

    def _begin(self, fetch: Fetch) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._fetches[fetch] = None
        fetch.call = self._fetching.submit(lambda: self._fetch(fetch))

    def _fetch(self, fetch: Fetch) -> None:
        last = len(fetch.requests) - 1
        for at, (request, items) in enumerate(fetch.requests):
            if self._is_closed:
                return
            fetch.at, began = at, time.perf_counter()
            found = _outcome(partial(self._reader.fetch, request))
            self._pace.reads.append((time.perf_counter() - began) / len(items))
            with self._lock:
                if fetch not in self._fetches:
                    return  # it was given up
                if at == last or isinstance(found, BaseException):
                    del self._fetches[fetch]
            if isinstance(found, BaseException):  # it ends the task, so what follows is not read
                for _, own in fetch.requests[at:]:
                    self._set(own, [found] * len(own))
                del found  # its traceback holds this frame
                return
            if isinstance(found[0], ImageError):
                self._fail(request, items, found[0], fetch.is_second)
            else:
                self._set(items, found)

    def _end_overdue(self, fetch: Fetch) -> None:
        """Give up a read that has exceeded the deadline, and go on with those after it."""
        fetcher, call, at = self._reader.fetcher, fetch.call, fetch.at
        if call is None or not call.is_overdue(fetcher.deadline):
            return
        with self._lock:
            if fetch not in self._fetches or fetch.at != at:
                return
            del self._fetches[fetch]
        self._fetching.give_up(call)
        request, items = fetch.requests[at]
        self._fail(request, items, fetcher.give_up(request), fetch.is_second)
        if rest := fetch.requests[at + 1 :]:
            self._begin(Fetch(rest, fetch.is_second))

    def _fail(
        self, request: Request, items: Sequence[Pending], error: ImageError, is_second: bool
    ) -> None:
        """Read the rows of a failed request once more, one by one, if that may help."""
        again = error.status == TIMEOUT or (error.status == UNAVAILABLE and len(items) > 1)
        if is_second or not again:
            self._set(items, [error] * len(items))
            return
        for single, item in zip(plan_requests(request.rows, most=1), items, strict=True):
            self._begin(Fetch([(single, [item])], is_second=True))

    def _set(self, items: Sequence[Pending], found: Sequence[bytes | BaseException]) -> None:
        with self._lock:
            if self._is_closed:
                return
            for item, data in zip(items, found, strict=True):
                if item.data is not None:
                    continue  # an answer came after all, just when its read was given up
                turn, item.data = self._turns[item], data
                turn.lacking -= 1
                if not turn.lacking:
                    turn.fetched.set()

    # Decoding

    def _submit(self, turn: Turn) -> None:
        with self._lock:  # the thread looks for its call
            turn.call = turn.crew.submit(lambda: self._decode(turn))

    def _decode(self, turn: Turn) -> None:
        """Decode the images of a turn that are left."""
        # Turns wait for requests in the order of submission, so they cannot block each other.
        turn.fetched.wait()
        with self._lock:
            call = turn.call
        for at in range(turn.at, len(turn.items)):
            item = turn.items[at]
            data, item.data = item.data, b""
            if self._is_closed:
                return
            began = time.perf_counter()
            outcome = self._decode_one(item.row, data)
            self._pace.decodes.append(time.perf_counter() - began)
            with self._lock:
                if turn.call is not call or self._is_closed:
                    return  # it was given up
                item.outcome, turn.at = outcome, at + 1
            del outcome  # it belongs to who takes it, while the next one is decoded

    def _decode_one(
        self, row: ImageRow, data: bytes | BaseException | None
    ) -> LoadedImage | BaseException:
        assert data is not None
        if isinstance(data, BaseException) and not isinstance(data, ImageError):
            return data
        return _outcome(partial(self._reader.decode, row, data))

    def _give_up_decoding(self, turn: Turn, at: int) -> bool:
        """Give up the image at a place of a turn; return whether it was still being decoded."""
        with self._lock:
            if turn.at != at:
                return False
            call, turn.call, turn.at = turn.call, None, at + 1
        assert call is not None
        turn.crew.give_up(call)
        turn.items[at].outcome = self._reader.too_slow(turn.items[at].row)
        if turn.at < len(turn.items):
            # A thread of its own: turns are in order, and this one is before all others.
            if turn.crew is self._decoding:
                turn.crew = Crew(1, "reader")
                self._others.append(turn.crew)
            self._submit(turn)
        return True

    # Films

    def _load_film(self, request: FilmRequest) -> list[Pending]:
        images: list[Future[LoadedImage]] = [Future() for _ in request.rows]
        load, before = FilmLoad(request, self._reader.films, images), self._film
        is_same = before and before.request.uri == request.uri
        if before and not is_same:
            before.end()
        load.begin(self._decoding, before if is_same else None)
        self._film = load
        rows = zip(request.rows, images, strict=True)
        return [Pending(row, film=load, frame=image) for row, image in rows]

    def _frame(self, item: Pending, film: FilmLoad, frame: Future[LoadedImage]) -> LoadedImage:
        while not frame.done():
            if film.call and film.call.is_overdue(film.deadline):
                self._decoding.give_up(film.call)
                return film.too_slow(item.row)
            self._wait(frame, film.call)
        return frame.result()


def _outcome(work: Callable[[], T]) -> T | BaseException:
    """Return what a work returns or raises."""
    try:
        return work()
    except BaseException as error:
        return error
