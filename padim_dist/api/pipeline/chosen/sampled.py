"""A sample of the normal images of a fit, for what is made of some of them."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.config import Config
from padim_dist.core.status import SCORED, UNSETTLED
from padim_dist.engine.source import ShardSource
from padim_dist.errors import RunError
from padim_dist.pages.words import counted, listed


@dataclass(frozen=True)
class ChosenImage:
    """An image of a sample: its row, the shard that has it, and the piece of the fit."""

    piece: Piece
    source: ShardSource
    row: ImageRow


def sample_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a sample and its pixels depend on.

    What leaves out some of the archive's images, or labels them, makes no other sample: what is
    made of it is made once for an archive, or every night of a window would be embedded again.
    """
    archive = {name: archive_settings(config)[name] for name in ("url", "layout", "group")}
    model = config.model.model_dump(mode="json", include={"resize", "seed", "align"})
    if config.model.jpeg != "libjpeg":  # ids of before there was another one stay
        model["jpeg"] = config.model.jpeg
    return {"archive": archive, "bits": config.archive.bits, "model": model}


def refuse_lost(images: Sequence[LoadedImage], what: str) -> None:
    """Refuse a sample some of whose images cannot be read now, but perhaps later.

    What is made of it is kept for good.

    Parameters
    ----------
    images : sequence of LoadedImage
        The sample.
    what : str
        What is made of it, for the message.

    Raises
    ------
    RunError
        Names them.
    """
    if not (lost := [image for image in images if image.status in UNSETTLED]):
        return
    usable = sum(image.status == SCORED for image in images)
    raise RunError(
        f"{counted(len(lost), 'image')} of {len(lost) + usable} that {what} is made of cannot be "
        f"read now, the first with {lost[0].status}: {lost[0].error}. Run 'padim-dist index' and "
        "this command again, or leave them out by fit.without (ids: "
        f"{listed(image.row.image_id for image in lost)})"
    )


def sample_rows(
    config: Config, pieces: Sequence[Piece], readings: Mapping[str, Reading], most: int
) -> list[ChosenImage]:
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
    list of ChosenImage
        In the order of the pieces.
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
                found.append(ChosenImage(piece, source, row))
    return found
