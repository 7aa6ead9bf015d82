"""Moments in Zarr: of the parts of a fit, and the merged ones inside a model.

A fit cuts the coarsest cells into *bands*. A part has one array, with the numbers of a cell in each
row and a band in each chunk: a merge reads a band of every part by three requests. A model has an
array for each mean and block. A part that has kept the embeddings of all its images may have no
moments: they are made from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import DamagedFileError
from padim_dist.store.arrays import (
    child_array,
    create_uncompressed,
    open_zarr_group,
    put_attributes,
    read_attributes,
    reports_array_damage,
)
from padim_dist.store.parts.receipt import part_advice
from padim_dist.store.parts.sample import SampleReader
from padim_dist.store.workspace import Workspace

Band = tuple[int, int]
_NAME = "moments"


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
    blocks = [data.reshape(shape.cells, -1) for _, _, data in moments_arrays(moments)]
    size = (shape.cells, sum(block.shape[1] for block in blocks))
    step = min(band_cells, shape.cells)
    array = create_uncompressed(group, _NAME, size, "float64", (step, size[1]))
    # Band by band: all moments, joined at once, would be in memory twice.
    for start in range(0, shape.cells, step):
        some = slice(start, min(start + step, shape.cells))
        array[some] = torch.cat([block[some] for block in blocks], dim=1).cpu().numpy()


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

        count, levels = attributes["count"], shape.levels
        assert isinstance(count, int)
        try:
            array = child_array(group, _NAME)
        except KeyError:
            if "mean_0" not in group:
                raise
            found = _of_blocks(group, shape, band, file, device)
        else:
            found = _of_cells(array, shape, band, file, device)
        scatter = dict(zip(shape.pairs, found[levels:], strict=True))
        return Moments(count=count, mean=found[:levels], scatter=scatter)


def _of_cells(
    array: Any, shape: PyramidShape, band: Band, file: str, device: torch.device
) -> list[Tensor]:
    """Return the means and blocks of a band of a part's array."""
    sizes = [size for _, _, size in moments_shapes(shape)]
    widths = [prod(size) // shape.cells for size in sizes]
    cells = _checked(array, slice(*band), (sum(widths),), file, device)
    pieces = zip(cells.split(widths, dim=1), sizes, strict=True)
    return [piece.reshape(-1, *size[1:]).contiguous() for piece, size in pieces]


def _of_blocks(
    group: Any, shape: PyramidShape, band: Band, file: str, device: torch.device
) -> list[Tensor]:
    """Return the means and blocks of a band of a part of version 0.5: an array has each."""
    return [
        _checked(child_array(group, name), band_slice(shape, level, band), size[1:], file, device)
        for name, level, size in moments_shapes(shape)
    ]


def _checked(
    array: Any, rows: slice, size: tuple[int, ...], file: str, device: torch.device
) -> Tensor:
    """Return rows of an array; there is no number where a chunk is missing."""
    data = array[rows]
    if data.shape != (rows.stop - rows.start, *size) or data.dtype != np.float64:
        raise DamagedFileError(file, f"{array.basename} has the shape {data.shape}, {data.dtype}")
    if not np.isfinite(data.sum()):
        raise DamagedFileError(file, f"{array.basename} has values that are no number")
    return torch.from_numpy(data).to(device)


def _made(sample: SampleReader, band: Band, together: int, device: torch.device) -> Moments:
    """Return a band of the moments of a sample, which has all images of its part."""
    if not sample.image_ids:
        raise DamagedFileError(sample.file, "it has neither moments nor embeddings")
    moments = Moments.zeros(sample.shape, device, band[1] - band[0])
    for levels in sample.batches(together, band):
        moments.update([level.to(device) for level in levels])
    return moments


def moments_shapes(shape: PyramidShape) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return name, level of axis 0, and shape of each mean and block."""
    means = [(f"mean_{a}", a, shape.mean_shape(a)) for a in range(shape.levels)]
    return [*means, *((f"scatter_{a}_{b}", b, shape.block_shape(a, b)) for a, b in shape.pairs)]


def moments_arrays(moments: Moments) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each mean and block, as in `moments_shapes`."""
    means = [(f"mean_{a}", a, mean) for a, mean in enumerate(moments.mean)]
    return means + blocks("scatter", moments.scatter)


def blocks(kind: str, arrays: Mapping[tuple[int, int], Tensor]) -> list[tuple[str, int, Tensor]]:
    """Return name, level of axis 0, and data of each block."""
    return [(f"{kind}_{a}_{b}", b, block) for (a, b), block in arrays.items()]
