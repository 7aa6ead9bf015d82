"""Pixel counts of a run: anomaly maps against ground-truth masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from padim_dist.api.labels.mask_doubts import MaskDoubts
from padim_dist.api.labels.truths import KnownImage, Truths
from padim_dist.api.settings import plans
from padim_dist.api.settings.moved import move_since_id
from padim_dist.archive.reading.masks import CheckedMask, check_mask
from padim_dist.archive.reading.transform import prepare_mask
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config
from padim_dist.core.evaluation.metrics import PixelCounts
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.store.gaussians import Model
from padim_dist.store.manifests import read_masked
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run

_EIGHT_NEIGHBOURS = np.ones((3, 3))
_THREADS = 4
Maps = npt.NDArray[np.float32]
Regions = npt.NDArray[np.int32]


def find_masked(run: Run, head: RunHead, image_ids: Collection[str]) -> dict[str, ImageRow]:
    """Return the manifest rows of those images that have a mask, by image_id."""
    return {
        row.image_id: row
        for table in read_masked(run.workspace, head.snapshot)
        for row in to_rows(table)
        if row.image_id in image_ids
    }


class Pixels:
    """Counts the pixels of groups with masks.

    Parameters
    ----------
    config, run, head : Config, Run, RunHead
        The run, and where its archive is.
    masked : mapping of str to ImageRow
        Anomalous images with a mask, by image_id.

    Attributes
    ----------
    counts : dict of str to PixelCounts
        Counts by group; filled by `add`.
    unread : Counter of str
        Masks that cannot be read, by group.
    outside : int
        Masks with no pixel inside of the region of interest.
    doubts : MaskDoubts
        Masks that may not go with their images.
    """

    def __init__(
        self, config: Config, run: Run, head: RunHead, masked: Mapping[str, ImageRow]
    ) -> None:
        info = Model(run.workspace, head.model_id).info
        spec = info.embedding
        self._run, self._masked = run, masked
        self._map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, info.sigma)
        moved = move_since_id(config, head.snapshot)
        self._reader = plans.reader_of(
            config, spec, moved, plans.witnesses_of(config, plans.whole_manifest(config))
        )
        self.counts: dict[str, PixelCounts] = {}
        self.unread: Counter[str] = Counter()
        self.outside = 0
        self.doubts = MaskDoubts()

    def measure(self, truths: Truths, groups: Collection[str]) -> Iterator[int]:
        """Add all known images of groups, a shard at a time; yield the images of each shard.

        Good images have no anomalous pixel. Anomalous ones without a mask are left out. Pixels
        outside of the region of interest do not count.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            for images in truths.by_shard(groups):
                kept = [
                    image
                    for image in images
                    if not image.is_anomalous or image.image_id in self._masked
                ]
                regions = pool.map(self._regions, kept)
                for image, full, (region, mask) in zip(
                    kept, self._maps(kept), regions, strict=True
                ):
                    self.doubts.add(mask)
                    if region is None:
                        self.unread[image.group] += 1
                    elif full is not None:
                        self._count(image.group, full, region)
                yield len(images)

    def _count(self, group: str, full: Maps, region: Regions) -> None:
        judged = ~np.isnan(full)
        if not judged.all():
            self.outside += bool(region.any()) and not region[judged].any()
            full, region = full[judged], region[judged]
        self.counts.setdefault(group, PixelCounts()).update(full, region)

    def _maps(self, images: list[KnownImage]) -> list[Maps | None]:
        """Return the anomaly map (H, W) of each image of a shard, None if it was not kept."""
        rows = [image.heatmap_row for image in images if image.heatmap_row is not None]
        if not rows:
            return [None] * len(images)
        first = min(rows)
        block = self._run.heatmaps.read(slice(first, max(rows) + 1))
        full = self._map.full_of_kept(
            torch.from_numpy(block[[row - first for row in rows]])
        ).numpy()
        by_row = dict(zip(rows, full, strict=True))
        return [None if i.heatmap_row is None else by_row[i.heatmap_row] for i in images]

    def _regions(self, image: KnownImage) -> tuple[Regions | None, CheckedMask | None]:
        """Return ground-truth regions at the size of the crop, None if unknown; the mask.

        A mask that may not go with its image is used as it is.
        """
        if not image.is_anomalous:
            return np.zeros(self._reader.geometry.crop, np.int32), None
        mask = check_mask(self._reader, self._masked[image.image_id])
        if mask.pixels is None:
            return None, mask
        where = (image.size, image.motion)
        pixels = prepare_mask(mask.pixels, self._reader.geometry, *where).numpy()
        regions: Regions = ndimage.label(pixels, _EIGHT_NEIGHBOURS)[0]
        return regions.astype(np.int32), mask
