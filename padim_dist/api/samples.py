"""A sample of an archive's rows, for the checks of `doctor` that read images."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.store.manifests import Shard

_MASKS = 64
_GROUPS, _NORMAL = 20, 3
_OF_GROUP = 16


@dataclass
class Samples:
    """Rows of a few images.

    Attributes
    ----------
    normal : mapping of str to list of ImageRow
        The first normal images of some groups.
    any : mapping of str to list of ImageRow
        Images of some groups from all over the archive.
    """

    normal: dict[str, list[ImageRow]] = field(default_factory=dict)
    any: dict[str, list[ImageRow]] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _masked: list[ImageRow] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, shard: Shard, rows: pa.Table) -> None:
        """Take rows of a shard into the sample."""
        group = shard.group
        has_room = group in self.normal or len(self.normal) < _GROUPS
        if group is not None and shard.split == "train" and has_room:
            kept = self.normal.setdefault(group, [])
            kept += to_rows(rows.slice(0, _NORMAL - len(kept)))
        if group is not None and (group in self.any or len(self.any) < _GROUPS):
            self._add_any(group, rows)
        masked = to_rows(rows.filter(pc.is_valid(rows["mask_uri"])))
        self._masked += self._some(masked)
        if len(self._masked) > 100 * _MASKS:
            self._masked = self._some(self._masked)

    def _add_any(self, group: str, rows: pa.Table) -> None:
        """Keep a random sample of the images of a group that have been seen so far."""
        kept = self.any.setdefault(group, [])
        for place in range(rows.num_rows):
            seen = self._seen[group] + place  # before this one
            at = seen if seen < _OF_GROUP else self._random.randrange(seen + 1)
            if at < _OF_GROUP:
                kept[at : at + 1] = to_rows(rows.slice(place, 1))
        self._seen[group] += rows.num_rows

    @property
    def masked(self) -> list[ImageRow]:
        """Some images with a mask."""
        return self._some(self._masked)

    def _some(self, rows: list[ImageRow]) -> list[ImageRow]:
        return self._random.sample(rows, min(len(rows), _MASKS))
