"""Windows: which kept moments a fit merges, and which it takes out again.

The newest entries of an archive's history each brought normal images. Their moments are
kept by content, so a fit of a window reads no image that a fit has read before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from padim_dist.engine.parts import Part, deal_parts, make_part
from padim_dist.errors import RequestError
from padim_dist.store.history import Entry
from padim_dist.store.manifests import Shard


@dataclass(frozen=True)
class Piece:
    """A part that a fit is made of.

    Attributes
    ----------
    manifest : str
        The manifest that has its shards.
    part : Part
        The part.
    out_of : Part or None
        The part out of which it is taken again: its moments are subtracted; None for one
        that is merged.
    """

    manifest: str
    part: Part
    out_of: Part | None = None


def choose_pieces(
    increments: Mapping[Entry, Sequence[Shard]], without: Sequence[str], parts: int | str
) -> list[Piece]:
    """Deal the normal images of a window to pieces, and leave out what is named.

    A shard that is left out is not simply missing from its part, which would then have to
    be embedded anew: its own moments are subtracted. Only a part of nothing else goes.

    Parameters
    ----------
    increments : mapping of Entry to sequence of Shard
        Entries of the window, in order, and the shards of their increments.
    without : sequence of str
        Days, numbers of entries, or their shards: ``2026-11-20``, ``7``, ``7/12``.
    parts : int or "auto"
        As in `deal_parts`, for each entry.

    Raises
    ------
    RequestError
        If a name stands for nothing in the window.
    """
    unknown = set(without)
    pieces = []
    for entry, shards in increments.items():
        names = {entry.day, str(entry.number)} & set(without)
        unknown -= names
        for part in deal_parts(shards, parts):
            bad = [s for s in part.shards if f"{entry.number}/{s.shard}" in without]
            unknown -= {f"{entry.number}/{shard.shard}" for shard in bad}
            if names or len(bad) == len(part.shards):
                continue
            assert entry.increment is not None
            pieces.append(Piece(entry.increment, part))
            for shard in bad:
                own = make_part(part.group, part.part, [shard])
                pieces.append(Piece(entry.increment, own, out_of=part))
    if unknown:
        raise RequestError(
            f"fit.without names {', '.join(sorted(unknown))}, but the window has "
            f"{_describe(increments)}. 'padim-dist history' shows them; a shard must be one of "
            "normal images"
        )
    return pieces


def _describe(increments: Mapping[Entry, Sequence[Shard]]) -> str:
    if not increments:
        return "no entry that brought images"
    shown = [
        f"{entry.number} ({entry.day}, {len(shards)} shards)"
        for entry, shards in increments.items()
    ]
    return f"the entries {', '.join(shown)}"
