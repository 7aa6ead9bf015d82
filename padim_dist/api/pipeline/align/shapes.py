"""Whether the picture that images are aligned with has their shape, before they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.formats.heads import Picture
from padim_dist.archive.reading.masks import read_head
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.core.align.reference import Reference, same_shape
from padim_dist.errors import ConfigError
from padim_dist.pages.words import counted, listed
from padim_dist.redaction import redacted
from padim_dist.store.manifests import read_shard
from padim_dist.store.workspace import Workspace

_HEADS = 3
"""Images of a group whose sizes are compared."""
_THREADS = 8
Heads = Mapping[str, tuple[ImageReader, Sequence[ImageRow]]]
"""A few images of each group, and who reads them."""


def first_images(
    workspace: Workspace, pieces: Sequence[Piece], readings: Mapping[str, Reading]
) -> Heads:
    """Return the first images of each group of a fit."""
    firsts = {one.part.group: one for one in reversed(pieces) if one.is_merged}

    def read(piece: Piece) -> tuple[ImageReader, Sequence[ImageRow]]:
        rows = read_shard(workspace, piece.manifest, piece.part.shards[0].shard).slice(0, _HEADS)
        return readings[piece.manifest].reader, to_rows(rows)

    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(firsts, pool.map(read, firsts.values()), strict=True))


def check_shape(reference: Reference, name: str, heads: Heads) -> str | None:
    """Refuse a picture that goes with no group; return a warning if it does not go with some.

    Parameters
    ----------
    reference, name : Reference, str
        The picture, and what ``model.align.to`` calls it.
    heads : mapping of str to (ImageReader, sequence of ImageRow)
        A few images of each group. Those whose size cannot be read do not count.

    Raises
    ------
    ConfigError
        Names the picture, a group, and both sizes.
    """

    def find(one: tuple[ImageReader, Sequence[ImageRow]]) -> Picture | None:
        """Return the first size that fits, or else the first one."""
        reader, rows = one
        sizes = [size for row in rows[:1] if (size := read_head(reader, row))]
        if not any(map(fits, sizes)):
            sizes += [size for row in rows[1:] if (size := read_head(reader, row))]
        return next(filter(fits, sizes), next(iter(sizes), None))

    def fits(size: Picture) -> bool:
        return same_shape(reference.size, (size.height, size.width))

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip(heads, pool.map(find, heads.values()), strict=True))
    sizes = {group: size for group, size in found.items() if size}
    others = {group: size for group, size in sizes.items() if not fits(size)}
    if not others:
        return None
    told = (
        f"model.align.to: {redacted(name)} does not have the shape of the images of "
        f"{counted(len(others), 'group')}: it has {Picture(reference.width, reference.height)} "
        f"pixels, images of {listed(f'{group!r} {size}' for group, size in others.items())}"
    )
    if len(others) == len(sizes):
        raise ConfigError(f"{told}. Name a picture of the camera, uncut, or set it to 'median'")
    return f"{told}. They are taken as they are"
