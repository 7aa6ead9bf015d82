"""Moments in Zarr: parts of a fit with a sample of each, and the merged moments inside a model.

Axis 0 of every array of moments is cut into *bands* of coarsest cells. One task writes a whole
part: for each array a Zarr shard with a chunk for each band. A merge reads one band of every part.

A sample is the embeddings of a few normal images of a part. A model is calibrated with them: no
image is read a second time, and a window of nights can be calibrated after its images are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_dist.core.align.motion import Motion
from padim_dist.core.moments import Moments
from padim_dist.core.pictures.forms import CountedForm
from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import DamagedFileError
from padim_dist.store.arrays import (
    child_array,
    open_zarr_group,
    put_attributes,
    read_attributes,
    reports_array_damage,
    write_uncompressed,
)
from padim_dist.store.workspace import Workspace

Band = tuple[int, int]
_IMAGES_A_CHUNK = 16


@dataclass(frozen=True)
class Failure:
    """An image of a part that is not in its moments."""

    image_id: str
    uri: str
    status: str
    error: str | None


@dataclass(frozen=True)
class KeptPart:
    """The receipt of a part.

    Attributes
    ----------
    images, fitted, sampled : int
        Images of the part, images in the moments, and images whose embeddings are kept.
    moments : str
        Path of the moments in the workspace.
    failures : sequence of Failure
        Images that are not in the moments.
    brightest : int or None
        Highest level (0 to 255) of the images in the moments; None in those of version 0.2.
    motions : sequence of (Motion or None), or None
        How the images in the moments lay, None for one that could not be aligned; None if images
        are not aligned.
    forms : sequence of CountedForm
        The most common forms of the images in the moments; none in those of version 0.5.
    """

    images: int
    fitted: int
    sampled: int
    moments: str
    failures: Sequence[Failure]
    brightest: int | None = None
    motions: Sequence[Motion | None] | None = None
    forms: Sequence[CountedForm] = ()


def band_slice(shape: PyramidShape, level: int, band: Band) -> slice:
    """Return the positions of a level in a band [start, stop) of coarsest cells."""
    ratio = shape.ratio(level, shape.levels - 1)
    return slice(band[0] * ratio, band[1] * ratio)


def write_part(
    workspace: Workspace, path: str, moments: Moments, shape: PyramidShape, band_cells: int
) -> None:
    """Write the moments of a part over anything that a killed task has left."""
    group = open_zarr_group(workspace, path, "w")
    put_attributes(group, {"count": moments.count})
    for name, level, data in moments_arrays(moments):
        rows = min(band_cells * shape.ratio(level, shape.levels - 1), data.shape[0])
        write_uncompressed(group, name, data.cpu().numpy(), rows)


def read_band(workspace: Workspace, path: str, shape: PyramidShape, band: Band) -> Moments:
    """Read a band of cells of a part.

    Raises
    ------
    DamagedFileError
        If it is damaged: a checksum does not match, or something is missing.
    """
    file = workspace.at(path)
    with reports_array_damage(file, _advice(workspace, path)):
        group = open_zarr_group(workspace, path, "r")

        def read(name: str, level: int, size: tuple[int, ...]) -> Tensor:
            rows = band_slice(shape, level, band)
            data: Any = child_array(group, name)[rows]
            if data.shape != (rows.stop - rows.start, *size[1:]) or data.dtype != np.float64:
                raise DamagedFileError(file, f"{name} has the shape {data.shape}, {data.dtype}")
            if not np.isfinite(data.sum()):  # where a chunk is missing there is no number
                raise DamagedFileError(file, f"{name} has values that are no number")
            return torch.from_numpy(data)

        count = read_attributes(group, file)["count"]
        assert isinstance(count, int)
        return Moments(
            count=count,
            mean=[read(f"mean_{a}", a, shape.mean_shape(a)) for a in range(shape.levels)],
            scatter={
                (a, b): read(f"scatter_{a}_{b}", b, shape.block_shape(a, b)) for a, b in shape.pairs
            },
        )


def _advice(workspace: Workspace, path: str) -> str:
    """Return what to do about damaged moments of a part: its name begins with its receipt's."""
    receipt = workspace.at(f"{path.rpartition('-')[0]}.json")
    return (
        f"Remove {receipt} and run 'padim-dist fit' again: it embeds the images of the part again"
    )


def moments_arrays(moments: Moments) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each array."""
    means = [(f"mean_{a}", a, mean) for a, mean in enumerate(moments.mean)]
    return means + blocks("scatter", moments.scatter)


def blocks(kind: str, arrays: Mapping[tuple[int, int], Tensor]) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each block."""
    return [(f"{kind}_{a}_{b}", b, block) for (a, b), block in arrays.items()]


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
    put_attributes(group, {"image_ids": sample.image_ids})
    while sample.levels:  # each level is freed once it is written
        images = sample.levels.pop()[: len(sample.image_ids)]
        name = f"level_{len(sample.levels)}"
        write_uncompressed(group, name, images.numpy(), _IMAGES_A_CHUNK)


class SampleReader:
    """The sample of a part, read a few images at a time.

    Attributes
    ----------
    image_ids : list of str
        Ids of its images; none if the part has no sample.
    """

    def __init__(self, workspace: Workspace, path: str, shape: PyramidShape) -> None:
        self._damage = workspace.at(f"{path}/sample"), _advice(workspace, path)
        self._arrays: list[Any] = []
        self.image_ids: list[str] = []
        with reports_array_damage(*self._damage):
            open_zarr_group(workspace, path, "r")
            if workspace.folder.exists(f"{path}/sample"):
                group = open_zarr_group(workspace, f"{path}/sample", "r")
                self.image_ids = [
                    str(name) for name in read_attributes(group, self._damage[0])["image_ids"]
                ]
                self._arrays = [child_array(group, f"level_{a}") for a in range(shape.levels)]

    def read(self, places: Sequence[int]) -> list[Tensor]:
        """Read level matrices x[a] (G_a, d_a, N) of the images at ascending places."""
        first, stop = min(places), max(places) + 1
        wanted = torch.tensor(places) - first
        levels = []
        for array in self._arrays:
            # Reading a slice and selecting is six times faster than reading single rows.
            with reports_array_damage(*self._damage):
                images = torch.from_numpy(array[first:stop])
                if len(images) < stop - first or not bool(images.sum().isfinite()):
                    raise DamagedFileError(self._damage[0], "embeddings are missing")
            if len(wanted) < len(images):
                images = images.index_select(0, wanted)
            levels.append(images.permute(1, 2, 0).contiguous())
        return levels
