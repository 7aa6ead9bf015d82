"""Sizes of a few images, from their first bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from padim_dist.archive.reading.formats.heads import Picture
from padim_dist.archive.reading.masks import read_head
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.events import Listener, Progress

_THREADS = 8


def sizes_by_group(
    rows: Mapping[str, Sequence[ImageRow]], reader: ImageReader, stage: str, listener: Listener
) -> dict[str, tuple[str, Picture]]:
    """Return address and size of the first image of each group whose size can be read.

    Groups without one are left out.

    Parameters
    ----------
    rows : mapping of str to sequence of ImageRow
        A few images of each group.
    reader, stage, listener : ImageReader, str, callable
        Reads them; name of the stage for the progress, and who hears of it.
    """

    def find(own: Sequence[ImageRow]) -> tuple[str, Picture] | None:
        for row in own:
            if (size := read_head(reader, row)) is not None:
                return row.uri, size
        return None

    found = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = zip(rows, pool.map(find, rows.values()), strict=True)
        for done, (group, size) in enumerate(sizes, 1):
            if size is not None:
                found[group] = size
            listener(Progress(stage, len(rows), done))
    return found
