"""A sample of the normal images of a fit, for what is made of some of them."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.settings.places import workspace_of
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.config import Config
from padim_dist.engine.source import ShardSource


def sample_rows(
    config: Config, pieces: Sequence[Piece], readings: Mapping[str, Reading], most: int
) -> list[tuple[Piece, ImageRow]]:
    """Return rows of normal images of a fit, chosen at random by ``model.seed``.

    Images that the fit subtracts are left out, and those that were set aside: they would end this
    process.

    Parameters
    ----------
    config : Config
        The configuration.
    pieces : sequence of Piece
        What the fit merges and subtracts, or what it does of one group.
    readings : mapping of str to Reading
        How images are read, by manifest.
    most : int
        Number of images that are chosen; fewer are returned if some of them are left out.

    Returns
    -------
    list of (Piece, ImageRow)
        The rows, in the order of the pieces, each with its piece.
    """
    taken_out = [piece for piece in pieces if not piece.is_merged]
    without = {image for piece in taken_out for image in piece.images}
    gone = {
        (piece.manifest, shard.shard)
        for piece in taken_out
        if not piece.images  # all that is in its shards
        for shard in piece.part.shards
    }
    sources = [
        (ShardSource(workspace_of(config), piece.manifest, shard, readings[piece.manifest]), piece)
        for piece in pieces
        if piece.is_merged
        for shard in piece.part.shards
        if (piece.manifest, shard.shard) not in gone
    ]
    starts = [0, *accumulate(source.shard.images for source, _ in sources)]
    places = random.Random(config.model.seed).sample(range(starts[-1]), min(most, starts[-1]))
    wanted: dict[int, list[int]] = {}
    for place in sorted(places):
        wanted.setdefault(bisect_right(starts, place) - 1, []).append(place)
    found = []
    for number, some in wanted.items():
        source, piece = sources[number]
        rows = source.rows()
        for row in (rows[place - starts[number]] for place in some):
            if isinstance(row, RefusedRow) or row.image_id in without:
                continue
            if not piece.images or row.image_id in piece.images:
                found.append((piece, row))
    return found
