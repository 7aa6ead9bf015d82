"""Moments in Zarr: of the parts of a fit, and the merged ones inside a model.

Axis 0 of every array is cut into *bands* of coarsest cells. One task writes a whole part: for each
array a Zarr shard with a chunk for each band. A merge reads one band of every part. A part that
has kept the embeddings of all its images may have no moments: they are made from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_dist.core.moments import Moments
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
from padim_dist.store.parts.receipt import part_advice
from padim_dist.store.parts.sample import SampleReader
from padim_dist.store.workspace import Workspace

Band = tuple[int, int]


def band_slice(shape: PyramidShape, level: int, band: Band) -> slice:
    """Return the positions of a level in a band [start, stop) of coarsest cells."""
    ratio = shape.ratio(level, shape.levels - 1)
    return slice(band[0] * ratio, band[1] * ratio)


def write_moments(
    workspace: Workspace, path: str, moments: Moments, shape: PyramidShape, band_cells: int
) -> None:
    """Write the moments of a part, beside its sample if it has one."""
    group = open_zarr_group(workspace, path, "a")
    put_attributes(group, {"count": moments.count})
    for name, level, data in moments_arrays(moments):
        rows = min(band_cells * shape.ratio(level, shape.levels - 1), data.shape[0])
        write_uncompressed(group, name, data.cpu().numpy(), rows)


def read_band(
    workspace: Workspace,
    path: str,
    shape: PyramidShape,
    band: Band,
    together: int,
    device: torch.device,
) -> Moments:
    """Return a band of cells of a part's moments, as they were written or from its embeddings.

    So many of these are added `together`; see `added_together`.

    Raises
    ------
    DamagedFileError
        If it is damaged: a checksum does not match, or something is missing.
    """
    file = workspace.at(path)
    with reports_array_damage(file, part_advice(workspace, path)):
        group = open_zarr_group(workspace, path, "r")
        attributes = read_attributes(group, file)
        if "count" not in attributes:
            return _made(SampleReader(workspace, path, shape), band, together, device)

        def read(name: str, level: int, size: tuple[int, ...]) -> Tensor:
            rows = band_slice(shape, level, band)
            data: Any = child_array(group, name)[rows]
            if data.shape != (rows.stop - rows.start, *size[1:]) or data.dtype != np.float64:
                raise DamagedFileError(file, f"{name} has the shape {data.shape}, {data.dtype}")
            if not np.isfinite(data.sum()):  # where a chunk is missing there is no number
                raise DamagedFileError(file, f"{name} has values that are no number")
            return torch.from_numpy(data).to(device)

        count = attributes["count"]
        assert isinstance(count, int)
        return Moments(
            count=count,
            mean=[read(f"mean_{a}", a, shape.mean_shape(a)) for a in range(shape.levels)],
            scatter={
                (a, b): read(f"scatter_{a}_{b}", b, shape.block_shape(a, b)) for a, b in shape.pairs
            },
        )


def _made(sample: SampleReader, band: Band, together: int, device: torch.device) -> Moments:
    """Return a band of the moments of a sample, which has all images of its part."""
    if not sample.image_ids:
        raise DamagedFileError(sample.file, "it has neither moments nor embeddings")
    moments = Moments.zeros(sample.shape, device, band[1] - band[0])
    for levels in sample.batches(together, band):
        moments.update([level.to(device) for level in levels])
    return moments


def moments_arrays(moments: Moments) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each array."""
    means = [(f"mean_{a}", a, mean) for a, mean in enumerate(moments.mean)]
    return means + blocks("scatter", moments.scatter)


def blocks(kind: str, arrays: Mapping[tuple[int, int], Tensor]) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each block."""
    return [(f"{kind}_{a}_{b}", b, block) for (a, b), block in arrays.items()]
