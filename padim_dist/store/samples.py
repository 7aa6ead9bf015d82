"""Samples: embeddings of a few normal images of a part, stored with its moments.

A model is calibrated with them: no image is read a second time, and a window of nights can be
calibrated after its images are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from padim_dist.core.pyramid import PyramidShape
from padim_dist.store.arrays import child_array, child_group, open_zarr_group
from padim_dist.store.workspace import Workspace

_IMAGES_A_CHUNK = 16


@dataclass
class Sample:
    """Embeddings of some images.

    Attributes
    ----------
    most : int
        Capacity in images.
    image_ids : list of str
        Ids of the images.
    levels : list of Tensor
        x[a] (most, G_a, d_a), float32, on the CPU: the layout on disk.
    """

    most: int
    image_ids: list[str] = field(default_factory=list)
    levels: list[Tensor] = field(default_factory=list)

    def add(self, image_ids: Sequence[str], levels: Sequence[Tensor], chosen: list[int]) -> None:
        """Add the chosen images of a batch with level matrices x[a] (G_a, d_a, N)."""
        if not chosen:
            return
        if not self.levels:
            self.levels = [torch.empty(self.most, *level.shape[:2]) for level in levels]
        if len(chosen) < levels[0].shape[-1]:
            places = torch.tensor(chosen, device=levels[0].device)
            levels = [level.index_select(-1, places) for level in levels]
        first, stop = len(self.image_ids), len(self.image_ids) + len(chosen)
        for kept, level in zip(self.levels, levels, strict=True):
            kept[first:stop] = level.permute(2, 0, 1)
        self.image_ids += [image_ids[i] for i in chosen]


def write_sample(workspace: Workspace, path: str, sample: Sample) -> None:
    """Write a sample into the Zarr group of a part, a Zarr shard for each level, and empty it."""
    if not sample.image_ids:
        return
    group = open_zarr_group(workspace, path, "r+").create_group("sample", overwrite=True)
    group.attrs["image_ids"] = sample.image_ids
    while sample.levels:  # each level is freed once it is written
        images = sample.levels.pop()[: len(sample.image_ids)]
        chunks = -(-len(images) // _IMAGES_A_CHUNK)
        array = group.create_array(
            f"level_{len(sample.levels)}",
            shape=images.shape,
            dtype="float32",
            chunks=(_IMAGES_A_CHUNK, *images.shape[1:]),
            shards=(chunks * _IMAGES_A_CHUNK, *images.shape[1:]),
            compressors=None,  # as for the moments
            config={"write_empty_chunks": True},
            fill_value=float("nan"),
        )
        array[...] = images.numpy()


class SampleReader:
    """The sample of a part, read a few images at a time.

    Attributes
    ----------
    image_ids : list of str
        Ids of its images; none if the part has no sample.
    """

    def __init__(self, workspace: Workspace, path: str, shape: PyramidShape) -> None:
        root = open_zarr_group(workspace, path, "r")
        self._arrays: list[Any] = []
        self.image_ids: list[str] = []
        if "sample" in root:
            group = child_group(root, "sample")
            self.image_ids = [str(name) for name in group.attrs["image_ids"]]  # type: ignore[union-attr]
            self._arrays = [child_array(group, f"level_{a}") for a in range(shape.levels)]

    def read(self, places: Sequence[int]) -> list[Tensor]:
        """Read level matrices x[a] (G_a, d_a, N) of the images at ascending places."""
        first, stop = min(places), max(places) + 1
        wanted = torch.tensor(places) - first
        levels = []
        for array in self._arrays:
            # Reading a slice and selecting is six times faster than reading single rows.
            images = torch.from_numpy(array[first:stop])
            if len(wanted) < len(images):
                images = images.index_select(0, wanted)
            levels.append(images.permute(1, 2, 0).contiguous())
        return levels
