"""Reading images ahead of their consumer, in order, within a memory budget and deadlines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

from padim_dist.archive.reading.film_loads import FilmLoad
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import FilmRequest, Request, plan_requests
from padim_dist.archive.reading.threads import Call, Crew, await_any
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.core.status import TIMEOUT, UNAVAILABLE
from padim_dist.errors import ImageError

BUDGET = 64 * 2**20
"""Maximum bytes of images that are read ahead and not decoded yet."""


@dataclass(frozen=True)
class Reading:
    """Reader and threads of a task.

    Attributes
    ----------
    reader : ImageReader
        Fetches and decodes.
    requests, decoders : int
        Number of concurrent requests, and of threads that decode.
    """

    reader: ImageReader
    requests: int
    decoders: int


def read_ahead(
    rows: Iterable[ImageRow | RefusedRow], reading: Reading, depth: int, budget: int = BUDGET
) -> Iterator[LoadedImage]:
    """Load images in order, ahead of the consumer.

    Many requests run while few threads decode. Memory does not grow with the archive: it holds at
    most `depth` images, and `budget` bytes of images that are not decoded yet; or one request, if
    that is more. An image that exceeds a deadline gets the status ``timeout``.

    Parameters
    ----------
    rows : iterable of ImageRow or RefusedRow
        Rows of the manifest.
    reading : Reading
        Reader and threads.
    depth, budget : int
        Maximum number of images read ahead, and of their bytes that are not decoded yet.

    Raises
    ------
    RunError
        If the store is ill, or memory runs out.
    """
    loader = _Loader(reading)
    ahead: deque[_Ahead] = deque()

    def is_full(more: int) -> bool:
        if len(ahead) >= depth or sum(item.size for item in ahead) + more <= budget:
            return len(ahead) >= depth
        return sum(item.size for item in ahead if item.is_encoded()) + more > budget

    try:
        for step in reading.reader.plan(rows):
            size = step.size if isinstance(step, Request) else 0
            while ahead and is_full(size):
                yield loader.result(ahead.popleft())
            ahead.extend(loader.load(step))
        while ahead:
            yield loader.result(ahead.popleft())
    finally:
        loader.close()


Body = Future[list[bytes | ImageError]]
"""The bytes of a row in a list, from which they are taken once they are needed."""


@dataclass(eq=False)
class _Fetch:
    """A request, the bytes of its rows when they have come, and the call that reads them."""

    request: Request
    bodies: list[Body]
    is_second: bool = False
    call: Call[None] | None = None


@dataclass(eq=False)
class _Ahead:
    """A pending image, the bytes that it holds until it is decoded, and the calls it waits for."""

    size: int
    image: Future[LoadedImage]
    row: ImageRow
    body: Body | None = None
    decoding: Call[LoadedImage] | Call[None] | None = None
    film: FilmLoad | None = None

    def is_encoded(self) -> bool:
        """Return whether it holds the bytes of the file."""
        if not self.image.done():
            return True
        return self.image.exception() is None and self.image.result().encoded is not None


class _Loader:
    """Threads that fetch and decode, and the reads that are not finished."""

    def __init__(self, reading: Reading) -> None:
        self._reader = reading.reader
        self._fetching = Crew(reading.requests, "fetch")
        self._decoding = Crew(reading.decoders, "reader")
        self._fetches: dict[Body, _Fetch] = {}
        self._film: FilmLoad | None = None

    def load(self, step: Request | FilmRequest | LoadedImage) -> list[_Ahead]:
        """Begin to read and decode the rows of a request; other outcomes are done."""
        if isinstance(step, FilmRequest):
            return self._load_film(step)
        if isinstance(step, LoadedImage):
            done: Future[LoadedImage] = Future()
            done.set_result(step)
            return [_Ahead(0, done, step.row)]
        bodies: list[Body] = [Future() for _ in step.rows]
        self._begin(_Fetch(step, bodies))
        size = step.size // len(bodies)
        return [self._decode(row, body, size) for row, body in zip(step.rows, bodies, strict=True)]

    def result(self, item: _Ahead) -> LoadedImage:
        """Wait for an image until it is there or has exceeded a deadline."""
        decoding = item.decoding
        while not item.image.done():
            # Any of the reads: if all threads are blocked, the one that is waited for never begins.
            fetches = [*dict.fromkeys([*self._fetches.values()])]
            for fetch in fetches:
                self._end_overdue(fetch)
            deadline = item.film.deadline if item.film else self._reader.deadline
            if decoding and decoding.is_overdue(deadline):
                self._decoding.give_up(decoding)
                return (item.film or self._reader).too_slow(item.row)
            calls = [fetch.call for fetch in fetches if fetch.call]
            await_any([item.image], [*calls, *([decoding] if decoding else [])])
        return item.image.result()

    def close(self) -> None:
        """End the threads."""
        for body in [*self._fetches]:
            body.cancel()  # a decoder may wait for it
        if self._film:
            self._film.end()
        self._fetching.close()
        self._decoding.close()

    def _end_overdue(self, fetch: _Fetch) -> None:
        """Give up a read that has exceeded the deadline."""
        fetcher, call = self._reader.fetcher, fetch.call
        if call and call.is_overdue(fetcher.deadline) and self._is_awaited(fetch):
            self._fetching.give_up(call)
            self._fail(fetch, fetcher.give_up(fetch.request))

    def _is_awaited(self, fetch: _Fetch) -> bool:
        """Return whether no later attempt has taken the place of a read."""
        return any(self._fetches.get(body) is fetch for body in fetch.bodies)

    def _begin(self, fetch: _Fetch) -> None:
        for body in fetch.bodies:
            self._fetches[body] = fetch
        fetch.call = self._fetching.submit(lambda: self._fetch(fetch))

    def _fetch(self, fetch: _Fetch) -> None:
        try:
            found = self._reader.fetch(fetch.request)
        except BaseException as error:
            if self._is_awaited(fetch):
                for body in fetch.bodies:
                    self._fetches.pop(body, None)
                    body.set_exception(error)
            return
        if not self._is_awaited(fetch):
            return  # it was given up
        if isinstance(found[0], ImageError):
            self._fail(fetch, found[0])
        else:
            self._set(fetch, found)

    def _fail(self, fetch: _Fetch, error: ImageError) -> None:
        """Read the rows of a failed request once more, one by one, if that may help."""
        again = error.status == TIMEOUT or (error.status == UNAVAILABLE and len(fetch.bodies) > 1)
        if fetch.is_second or not again:
            self._set(fetch, [error] * len(fetch.bodies))
            return
        single = plan_requests(fetch.request.rows, most=1)
        for request, body in zip(single, fetch.bodies, strict=True):
            self._begin(_Fetch(request, [body], is_second=True))

    def _set(self, fetch: _Fetch, found: Sequence[bytes | ImageError]) -> None:
        for body, data in zip(fetch.bodies, found, strict=True):
            self._fetches.pop(body, None)
            with suppress(InvalidStateError):  # closed, or given up in the meantime
                body.set_result([data])

    def _load_film(self, request: FilmRequest) -> list[_Ahead]:
        images: list[Future[LoadedImage]] = [Future() for _ in request.rows]
        load, before = FilmLoad(request, self._reader.films, images), self._film
        is_same = before and before.request.uri == request.uri
        if before and not is_same:
            before.end()
        load.begin(self._decoding, before if is_same else None)
        self._film = load
        return [
            _Ahead(0, image, row, decoding=load.call, film=load)
            for row, image in zip(request.rows, images, strict=True)
        ]

    def _decode(self, row: ImageRow, body: Body, size: int) -> _Ahead:
        def work() -> LoadedImage:
            # Decoders wait for requests in the order of submission, so they cannot block each
            # other.
            holder = body.result()
            data, holder[0] = holder[0], b""
            return self._reader.decode(row, data)

        decoding = self._decoding.submit(work)
        return _Ahead(size, decoding.future, row, body, decoding)
