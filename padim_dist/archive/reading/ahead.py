"""Reading images ahead of their consumer, in order, within a memory budget and deadlines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.loading.loader import Loader
from padim_dist.archive.reading.loading.turns import Pending
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow, RefusedRow

BUDGET = 64 * 2**20
"""Maximum bytes of images that are read ahead and not decoded yet."""
_TURNS = 4
"""Least number of turns that what is ahead has for each thread that decodes."""


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
    most = max(1, depth // (_TURNS * reading.decoders))
    loader = Loader(reading.reader, reading.requests, reading.decoders, most)
    ahead: deque[Pending] = deque()
    held = 0  # bytes of all that is ahead, decoded or not

    def is_full(more: int) -> bool:
        if len(ahead) >= depth or held + more <= budget:
            return len(ahead) >= depth
        return sum(item.size for item in ahead if item.is_encoded()) + more > budget

    try:
        for step in reading.reader.plan(rows):
            size = step.size if isinstance(step, Request) else 0
            while ahead and is_full(size):
                held -= ahead[0].size
                yield loader.result(ahead.popleft())
            items = loader.load(step)
            ahead.extend(items)
            held += sum(item.size for item in items)
        while ahead:
            yield loader.result(ahead.popleft())
    finally:
        loader.close()
