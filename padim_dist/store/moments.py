"""Moments in Zarr: parts of a fit, and the merged moments inside a model.

Axis 0 of every array is cut into *bands* of coarsest cells. One task writes a whole part: for each
array a Zarr shard with a chunk for each band. A merge reads one band of every part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.store.arrays import child_array, open_zarr_group
from padim_dist.store.workspace import Workspace

Band = tuple[int, int]


def mean_name(a: int) -> str:
    """Return the name of the array with the mean of level a."""
    return f"mean_{a}"


def block_name(kind: str, a: int, b: int) -> str:
    """Return the name of the array with the block of levels a and b."""
    return f"{kind}_{a}_{b}"


def band_slice(shape: PyramidShape, level: int, band: Band) -> slice:
    """Return the positions of a level in a band [start, stop) of coarsest cells."""
    ratio = shape.ratio(level, shape.levels - 1)
    return slice(band[0] * ratio, band[1] * ratio)


def write_part(
    workspace: Workspace, path: str, moments: Moments, shape: PyramidShape, band_cells: int
) -> None:
    """Write the moments of a part over anything that a killed task has left."""
    group = open_zarr_group(workspace, path, "w")
    group.attrs["count"] = moments.count
    for name, level, data in moments_arrays(moments):
        rows = min(band_cells * shape.ratio(level, shape.levels - 1), data.shape[0])
        bands = -(-data.shape[0] // rows)
        array = group.create_array(
            name,
            shape=data.shape,
            dtype="float64",
            chunks=(rows, *data.shape[1:]),
            shards=(rows * bands, *data.shape[1:]),
            compressors=None,  # see docs/architecture.md
            config={"write_empty_chunks": True},  # no search for empty ones
            fill_value=float("nan"),
        )
        array[...] = data.cpu().numpy()


def read_band(workspace: Workspace, path: str, shape: PyramidShape, band: Band) -> Moments:
    """Read a band of cells of a part."""
    group = open_zarr_group(workspace, path, "r")

    def read(name: str, level: int) -> torch.Tensor:
        data: Any = child_array(group, name)[band_slice(shape, level, band)]
        return torch.from_numpy(data)

    count = group.attrs["count"]
    assert isinstance(count, int)
    return Moments(
        count=count,
        mean=[read(mean_name(a), a) for a in range(shape.levels)],
        scatter={ab: read(block_name("scatter", *ab), ab[1]) for ab in shape.pairs},
    )


def moments_arrays(moments: Moments) -> list[tuple[str, int, torch.Tensor]]:
    """Return name, level of axis 0, and data of each array."""
    means = [(mean_name(a), a, mean) for a, mean in enumerate(moments.mean)]
    return means + blocks("scatter", moments.scatter)


def blocks(
    kind: str, arrays: Mapping[tuple[int, int], torch.Tensor]
) -> list[tuple[str, int, torch.Tensor]]:
    """Return name, level of axis 0, and data of each block."""
    return [(block_name(kind, a, b), b, block) for (a, b), block in arrays.items()]
