"""Heatmaps of a run: patch distances in a Zarr array, a Zarr shard for each shard of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from padim_dist.core.geometry import Grid
from padim_dist.store.arrays import compressor, open_array, open_zarr_group
from padim_dist.store.workspace import Workspace

MAPS_A_CHUNK = 32
"""Heatmaps in a chunk: smaller chunks are slower to write (see docs/formats.md)."""
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Heatmaps:
    """The heatmap array of a run; get it from `Run.heatmaps`."""

    workspace: Workspace
    path: str

    @property
    def url(self) -> str:
        """URL of the Zarr group."""
        return self.workspace.at(self.path)

    def exist(self) -> bool:
        """Return whether the run has heatmaps."""
        return self.workspace.folder.exists(self.path)

    def create(self, images: Sequence[int], grid: Grid) -> None:
        """Create the array, given the images of each shard, unless it exists.

        Every shard gets as many rows as the largest one needs, in whole chunks.
        """
        group = open_zarr_group(self.workspace, self.path, "a")
        rows = -(-max(images) // MAPS_A_CHUNK) * MAPS_A_CHUNK
        if "distance" not in group:
            group.create_array(
                "distance",
                shape=(len(images) * rows, *grid),
                dtype="float16",
                chunks=(MAPS_A_CHUNK, *grid),
                shards=(rows, *grid),
                compressors=compressor(),
                fill_value=float("nan"),
                dimension_names=("row", "y", "x"),
            )

    def write(self, place: int, distances: npt.NDArray[np.float32]) -> int:
        """Write the heatmaps of a shard as a whole Zarr shard.

        Parameters
        ----------
        place : int
            Index of the shard in the run.
        distances : array
            Patch distances (n, h, w); clipped to the range of float16.

        Returns
        -------
        int
            Row of the first heatmap.
        """
        array = open_array(self.workspace, self.path, "distance", "r+")
        assert array.shards is not None
        rows = array.shards[0]
        whole = np.full((rows, *distances.shape[1:]), np.nan, np.float16)
        whole[: len(distances)] = distances.clip(max=_LARGEST_HALF)
        array[place * rows : (place + 1) * rows] = whole
        return place * rows

    def read(self, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        """Read some heatmaps: patch distances (n, h, w)."""
        array = open_array(self.workspace, self.path, "distance", "r")
        return np.asarray(array.oindex[np.asarray(rows)], np.float32)

    def read_range(self, first: int, stop: int) -> npt.NDArray[np.float32]:
        """Read consecutive heatmaps: patch distances (n, h, w)."""
        array = open_array(self.workspace, self.path, "distance", "r")
        return np.asarray(array[first:stop], np.float32)
