"""Parts of a fit: how the normal images of a group are divided between tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from padim_dist.core.pyramid import PyramidShape
from padim_dist.store.manifests import Shard
from padim_dist.store.workspace import content_id

MOST_PARTS = 32
_PART_IMAGES = (32, 256)
_LEAST_PARTS = 4


@dataclass(frozen=True)
class Part:
    """Consecutive shards of one group, embedded by one task; `part` is its number in the group."""

    group: str
    part: int
    shards: tuple[Shard, ...]

    @property
    def images(self) -> int:
        """Images in the shards."""
        return sum(shard.images for shard in self.shards)

    @property
    def digest(self) -> str:
        """Content address of its rows, the same in every fit and manifest."""
        return content_id({"group": self.group, "rows": [shard.digest for shard in self.shards]})


def part_images(images: int) -> int:
    """Return the images in a part if ``fit.parts`` is ``auto``.

    A part has 256 images, since writing and merging its moments costs as much as embedding a dozen
    images. In a small archive it has fewer, but at least 32, so that workers can share four parts.
    Another division would not find the parts of earlier nights, whose images may be gone.

    Examples
    --------
    >>> part_images(100), part_images(209), part_images(1_000_000)
    (32, 53, 256)
    """
    least, most = _PART_IMAGES
    return min(max(-(-images // _LEAST_PARTS), least), most)


def deal_parts(shards: Sequence[Shard], parts: int | str) -> list[Part]:
    """Divide the shards of each group's normal images into parts, in order.

    `parts` is their number per group; ``"auto"``: by `part_images`, and at most `MOST_PARTS`.
    """
    by_group: dict[str, list[Shard]] = {}
    for shard in shards:
        if shard.split == "train" and shard.group is not None:
            by_group.setdefault(shard.group, []).append(shard)
    images = {group: sum(shard.images for shard in own) for group, own in by_group.items()}
    usual = part_images(sum(images.values()))
    dealt = []
    for group, own in by_group.items():
        wanted = min(MOST_PARTS, max(1, round(images[group] / usual)))
        count = min(len(own), parts if isinstance(parts, int) else wanted)
        for part in range(count):
            mine = own[len(own) * part // count : len(own) * (part + 1) // count]
            dealt.append(Part(group, part, tuple(mine)))
    return dealt


def has_moments(shape: PyramidShape, images: int, sampled: int) -> bool:
    """Return whether a part writes its moments, given how many of its images are in its sample.

    If all are, its moments can be computed from the sample when parts are merged. It writes them
    only if they take less room than the sample.

    Examples
    --------
    >>> shape = PyramidShape(grids=((4, 4), (2, 2)), channels=(3, 5))
    >>> has_moments(shape, 10, 10), has_moments(shape, 10, 9), has_moments(shape, 100, 100)
    (False, True, True)
    """
    return sampled < images or 4 * images * sum(shape.sizes) > 8 * shape.numbers
