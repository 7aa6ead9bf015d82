"""Drift of a run: mean embeddings of its shards, and what they came to for each group.

The means of shards are there only until the run is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr
from torch import Tensor

from padim_dist.core.geometry import Grid
from padim_dist.core.pyramid import PyramidShape
from padim_dist.storage import Folder
from padim_dist.store.arrays import compressor, open_zarr_group


def create_means(folder: Folder, run: str, shards: int, shape: PyramidShape) -> None:
    """Create the array of the shards' mean embeddings: a chunk, and a writer, a shard."""
    group = open_zarr_group(folder, f"{run}/means.zarr", "a")
    numbers = sum(shape.sizes)
    if "mean" not in group:
        group.create_array(
            "mean",
            shape=(shards, numbers),
            dtype="float32",
            chunks=(1, numbers),
            compressors=compressor(),
            fill_value=float("nan"),
        )


def write_mean(folder: Folder, run: str, place: int, mean: Sequence[Tensor]) -> None:
    """Write the mean embedding of a shard, mean[a] (G_a, d_a)."""
    flat = torch.cat([level.float().flatten() for level in mean])
    _array(folder, f"{run}/means.zarr", "mean", "r+")[place] = flat.cpu().numpy()


def read_mean(
    folder: Folder, run: str, shards: Sequence[tuple[int, int]], shape: PyramidShape
) -> list[Tensor]:
    """Mean embedding of shards together, mean[a] (G_a, d_a), float32.

    `shards` has their places, and the images in each.
    """
    array = _array(folder, f"{run}/means.zarr", "mean", "r")
    total = np.zeros(array.shape[1])
    for place, images in shards:
        total += images * np.asarray(array[place], np.float64)
    flat = torch.from_numpy(total / sum(images for _, images in shards)).float()
    levels = zip(flat.split(shape.sizes), shape.positions, strict=True)
    return [level.reshape(positions, -1) for level, positions in levels]


def remove_means(folder: Folder, run: str) -> None:
    """Remove the means of the shards."""
    folder.remove_tree(f"{run}/means.zarr")


def create_drift(folder: Folder, run: str, groups: Sequence[str], grid: Grid) -> None:
    """Create the drift maps of a run's groups."""
    group = open_zarr_group(folder, f"{run}/drift.zarr", "a")
    if "ratio" not in group:
        group.create_array(
            "ratio",
            shape=(len(groups), *grid),
            dtype="float32",
            chunks=(1, *grid),
            compressors=compressor(),
            fill_value=float("nan"),
            dimension_names=("group", "y", "x"),
        )
        group.attrs["groups"] = list(groups)


def write_drift(folder: Folder, run: str, place: int, ratio: npt.NDArray[np.float32]) -> None:
    """Write the drift map (y, x) of the group at a place."""
    _array(folder, f"{run}/drift.zarr", "ratio", "r+")[place] = ratio


def _array(folder: Folder, path: str, name: str, mode: Any) -> zarr.Array[Any]:
    array = open_zarr_group(folder, path, mode)[name]
    assert isinstance(array, zarr.Array)
    return array
