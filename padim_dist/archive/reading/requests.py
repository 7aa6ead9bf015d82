"""Requests to the store: an object per image, a range for neighbours in a tar file, or a film."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

from padim_dist.archive.rows import ImageRow

MOST_MEMBERS = 32
"""Maximum members of a request: all of them may be decoded before the first is taken."""


@dataclass(frozen=True)
class FilmRequest:
    """Successive frames of one film, to be read in one pass of its decoder."""

    uri: str
    rows: tuple[ImageRow, ...]


def plan_films(rows: Iterable[ImageRow], most: int = MOST_MEMBERS) -> Iterator[FilmRequest]:
    """Yield requests for rows that are frames, in order."""
    for (uri, _), frames in groupby(rows, key=lambda row: (row.uri, row.etag)):
        while some := tuple(islice(frames, most)):
            yield FilmRequest(uri, some)


@dataclass(frozen=True)
class Request:
    """One request to the store.

    Attributes
    ----------
    uri : str
        The object.
    rows : tuple of ImageRow
        Manifest rows whose bytes it reads.
    start, stop : int or None
        Half-open range of bytes; None for the whole object.
    """

    uri: str
    rows: tuple[ImageRow, ...]
    start: int | None = None
    stop: int | None = None

    @property
    def size(self) -> int:
        """Number of bytes to read, according to the manifest."""
        if self.start is None or self.stop is None:
            return self.rows[0].length
        return self.stop - self.start

    def cut(self, body: bytes) -> list[bytes]:
        """Return the bytes of each row."""
        if self.start is None:
            return [body]
        start = self.start
        return [body[row.offset - start : row.offset - start + row.length] for row in self.rows]


def plan_requests(
    rows: Iterable[ImageRow], gap: int = 2**16, longest: int = 2**23, most: int = MOST_MEMBERS
) -> Iterator[Request]:
    """Yield requests for manifest rows, in order.

    A row without ``member`` is a whole object. Successive members of one tar file are joined to
    one range.

    Parameters
    ----------
    rows : iterable of ImageRow
        Rows, whose members end inside their tar files.
    gap : int
        Maximum number of unused bytes between two joined members.
    longest : int
        Maximum number of bytes of a joined range; a single member may be larger.
    most : int
        Maximum number of members of a joined range.

    Examples
    --------
    >>> rows = [
    ...     ImageRow("id", "a.tar", str(i), 512 * i, 500, 9999, None, None, "test")
    ...     for i in (1, 2, 9)
    ... ]
    >>> [(r.start, r.stop, len(r.rows)) for r in plan_requests(rows, gap=1024)]
    [(512, 1524, 2), (4608, 5108, 1)]
    """
    joined: list[ImageRow] = []
    start = stop = 0
    for row in rows:
        begins, ends = row.offset, row.offset + row.length
        follows = (
            0 < len(joined) < most
            and row.member is not None
            and (row.uri, row.etag) == (joined[0].uri, joined[0].etag)
            and start <= begins <= stop + gap
            and max(stop, ends) - start <= longest
        )
        if joined and not follows:
            yield Request(joined[0].uri, tuple(joined), start, stop)
            joined = []
        if row.member is None:
            yield Request(row.uri, (row,))
            continue
        if not joined:
            start, stop = begins, ends
        joined.append(row)
        stop = max(stop, ends)
    if joined:
        yield Request(joined[0].uri, tuple(joined), start, stop)
