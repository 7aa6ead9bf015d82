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
    that is more.

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
        If the store keeps failing, or memory runs out.
    """
    reader = reading.reader
    fetching = ThreadPoolExecutor(reading.requests, thread_name_prefix="fetch")
    decoding = ThreadPoolExecutor(reading.decoders, thread_name_prefix="reader")
    ahead: deque[_Ahead] = deque()

    def is_full(more: int) -> bool:
        if len(ahead) >= depth or sum(item.size for item in ahead) + more <= budget:
            return len(ahead) >= depth
        return sum(item.size for item in ahead if item.is_encoded()) + more > budget

    def take(bodies: Future[list[bytes | ImageError]], place: int, row: ImageRow) -> LoadedImage:
        # Decoders wait for requests in the order of submission, so they cannot block each other.
        data, bodies.result()[place] = bodies.result()[place], b""
        return reader.decode(row, data)

    try:
        for step in reader.plan(rows):
            size = 0 if isinstance(step, LoadedImage) else step.size
            while ahead and is_full(size):
                yield ahead.popleft().image.result()
            if isinstance(step, LoadedImage):
                done: Future[LoadedImage] = Future()
                done.set_result(step)
                ahead.append(_Ahead(0, done))
                continue
            bodies = fetching.submit(reader.fetch, step)
            for place, row in enumerate(step.rows):
                image = decoding.submit(take, bodies, place, row)
                ahead.append(_Ahead(size // len(step.rows), image))
        while ahead:
            yield ahead.popleft().image.result()
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
        if not self.image.done():
            return True
        return self.image.exception() is None and self.image.result().encoded is not None
