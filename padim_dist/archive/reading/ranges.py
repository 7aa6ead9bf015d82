"""A film as a file whose ranges are fetched as images are: with retries and witnesses."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import untimed_part
from padim_dist.archive.rows import ImageRow

BLOCK = 2**22
"""Bytes of a request."""
_KEPT = 4
"""Blocks in memory: that at work, the index of the film, and those of interleaved streams."""


class RangeFile:
    """Seekable file over an object of the archive.

    Parameters
    ----------
    fetcher : ObjectFetcher
        Fetches the blocks.
    row : ImageRow
        Any row of the object; its etag says which version of it is read.

    Attributes
    ----------
    request : Request or None
        The request that is under way.
    """

    def __init__(self, fetcher: ObjectFetcher, row: ImageRow) -> None:
        self.request: Request | None = None
        self._fetcher, self._row, self._place = fetcher, row, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, not beyond a block.

        Raises
        ------
        ImageError, RunError
            See `ObjectFetcher.fetch`.
        """
        if self._place >= self._row.size:
            return b""
        number, start = divmod(self._place, BLOCK)
        data = self._block(number)[start : start + size]
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move from the beginning, the present place (1) or the end (2); return the new place."""
        self._place = max(0, (0, self._place, self._row.size)[whence] + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start, stop = number * BLOCK, min((number + 1) * BLOCK, self._row.size)
            part = replace(self._row, offset=start, length=stop - start)
            with untimed_part():  # each attempt has a deadline of its own
                self.request = Request(self._row.uri, (part,), start, stop)
                try:
                    (self._blocks[number],) = self._fetcher.fetch(self.request)
                finally:
                    self.request = None
            if len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
