"""Windows: which moments a fit merges, and which it subtracts.

A window is the newest entries of an archive's history. The moments of their normal images are
stored by content, so a fit of a window reads no image that an earlier fit has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from padim_dist.engine.parts import Part, deal_parts
from padim_dist.errors import RequestError
from padim_dist.pages.words import counted
from padim_dist.store.history import Entry
from padim_dist.store.manifests import Shard


@dataclass(frozen=True)
class Piece:
    """Images of a manifest that a fit merges, or subtracts.

    Attributes
    ----------
    images : tuple of str
        Ids of the only images of the part's shards; empty: all.
    out_of : tuple of Part
        The merged parts of the same manifest that these images are subtracted from; empty: they are
        merged.
    """

    manifest: str
    part: Part
    images: tuple[str, ...] = ()
    out_of: tuple[Part, ...] = ()

    @property
    def is_merged(self) -> bool:
        """Whether it is merged; otherwise it is subtracted."""
        return not self.out_of


def choose_pieces(
    increments: Mapping[Entry, Sequence[Shard]], without: Sequence[str], parts: int | str
) -> list[Piece]:
    """Divide the normal images of a window into pieces, without those that are named.

    The moments of a shard that is left out are subtracted from those of its part, which need not
    be embedded again. A part is dropped only if all its shards are left out.

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
        If the window has nothing with a name.
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
                own = Part(part.group, part.part, (shard,))
                pieces.append(Piece(entry.increment, own, out_of=(part,)))
    if unknown:
        raise RequestError(
            f"fit.without names {', '.join(sorted(unknown))}, but the window has "
            f"{_describe(increments)}. 'padim-dist history' shows them; a shard must have "
            "normal images"
        )
    return pieces


def _describe(increments: Mapping[Entry, Sequence[Shard]]) -> str:
    if not increments:
        return "no entry that brought images"
    counts = [(entry, counted(len(shards), "shard")) for entry, shards in increments.items()]
    return f"the entries {', '.join(f'{e.number} ({e.day}, {shards})' for e, shards in counts)}"
