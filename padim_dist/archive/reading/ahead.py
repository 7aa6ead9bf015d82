"""Reading images ahead of their consumer, in order, within a memory budget."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from padim_dist.archive.reading.reader import ImageReader, LoadedImage
from padim_dist.archive.rows import ImageRow, RefusedRow
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
    requests : int
        Number of concurrent requests.
    decoders : int
        Number of threads that decode.
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
    that is more.

    Parameters
    ----------
    rows : iterable of ImageRow or RefusedRow
        Rows of the manifest.
    reading : Reading
        Reader and threads.
    depth : int
        Maximum number of images read ahead.
    budget : int
        Maximum bytes read ahead and not decoded yet.

    Yields
    ------
    LoadedImage

    Raises
    ------
    RunError
        If the store keeps failing, or memory runs out.
    """
    reader = reading.reader
    fetching = ThreadPoolExecutor(reading.requests, thread_name_prefix="fetch")
    decoding = ThreadPoolExecutor(reading.decoders, thread_name_prefix="reader")
    ahead: deque[_Ahead] = deque()
    asked = 0

    def is_full(more: int) -> bool:
        if len(ahead) >= depth or asked + more <= budget:
            return len(ahead) >= depth
        held = sum(item.size for item in ahead if item.is_encoded())
        return held + more > budget

    def add(size: int, image: Future[LoadedImage]) -> None:
        nonlocal asked
        asked += size
        ahead.append(_Ahead(size, image))

    def pop() -> LoadedImage:
        nonlocal asked
        item = ahead.popleft()
        asked -= item.size
        return item.image.result()

    def take(bodies: Future[list[bytes | ImageError]], place: int, row: ImageRow) -> LoadedImage:
        # Decoders wait for requests in the order of submission, so they cannot block each other.
        data, bodies.result()[place] = bodies.result()[place], b""
        return reader.decode(row, data)

    try:
        for step in reader.plan(rows):
            size = 0 if isinstance(step, LoadedImage) else step.size
            while ahead and is_full(size):
                yield pop()
            if isinstance(step, LoadedImage):
                done: Future[LoadedImage] = Future()
                done.set_result(step)
                add(0, done)
                continue
            bodies = fetching.submit(reader.fetch, step)
            for place, row in enumerate(step.rows):
                image = decoding.submit(take, bodies, place, row)
                add(size // len(step.rows), image)
        while ahead:
            yield pop()
    finally:
        fetching.shutdown(wait=False, cancel_futures=True)
        decoding.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Ahead:
    """A pending image, and the number of bytes that it holds until it is decoded."""

    size: int
    image: Future[LoadedImage]

    def is_encoded(self) -> bool:
        """Return whether it holds the bytes of the file."""
        image = self.image
        return not image.done() or (
            image.exception() is None and image.result().encoded is not None
        )
