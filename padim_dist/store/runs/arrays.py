"""Zarr arrays of a run: heatmaps, and the drift of its groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.geometry import Grid
from padim_dist.store.arrays import (
    child_array,
    create_array,
    open_array,
    open_zarr_group,
    store_at,
    zarr_group,
)
from padim_dist.store.records import find_receipt, find_record
from padim_dist.store.runs.digests import Digests
from padim_dist.store.workspace import Workspace, group_slug

if TYPE_CHECKING:
    import zarr

MAPS_A_CHUNK = 32
"""Heatmaps in a chunk: smaller chunks are slower to write (see docs/formats.md)."""
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Heatmaps:
    """Heatmaps of a run: patch distances, a Zarr shard for each shard; see `Run.heatmaps`."""

    workspace: Workspace
    path: str

    def exist(self) -> bool:
        """Return whether the run has heatmaps."""
        return self.workspace.folder.exists(self.receipt)

    @property
    def receipt(self) -> str:
        """The file that makes them an array: without it there are no heatmaps."""
        return f"{self.path}/zarr.json"

    def create(self, images: Sequence[int], grid: Grid) -> None:
        """Create the array, given the images of each shard, unless it exists.

        Every shard gets as many rows as the largest one needs, in whole chunks.
        """
        group = open_zarr_group(self.workspace, self.path, "a")
        rows = -(-max(images) // MAPS_A_CHUNK) * MAPS_A_CHUNK
        if "distance" not in group:
            create_array(
                group,
                "distance",
                (len(images) * rows, *grid),
                "float16",
                chunks=(MAPS_A_CHUNK, *grid),
                shards=(rows, *grid),
                dimension_names=("row", "y", "x"),
            )

    def write(self, place: int, distances: npt.NDArray[np.float32]) -> tuple[int, dict[str, str]]:
        """Write the heatmaps (n, h, w) of the shard at a place.

        They are a whole Zarr shard; distances are clipped to the range of float16.

        Returns
        -------
        first : int
            Row of the first heatmap.
        digests : mapping of str to str
            Digest of the file; empty if there is none, since no image has a heatmap.
        """
        with _recorded(self.workspace, self.path, "distance") as (array, digests):
            assert array.shards is not None
            rows = array.shards[0]
            whole = np.full((rows, *distances.shape[1:]), np.nan, np.float16)
            whole[: len(distances)] = as_stored(distances)
            array[place * rows : (place + 1) * rows] = whole
        return place * rows, digests

    def first_row(self, place: int) -> int:
        """Return the row of the first heatmap of the shard at a place."""
        array = open_array(self.workspace, self.path, "distance", "r")
        assert array.shards is not None
        return place * int(array.shards[0])

    def read(self, rows: Sequence[int] | slice) -> npt.NDArray[np.float32]:
        """Read some heatmaps: patch distances (n, h, w)."""
        array = open_array(self.workspace, self.path, "distance", "r")
        return np.asarray(
            array.oindex[rows if isinstance(rows, slice) else np.asarray(rows)], np.float32
        )


def as_kept(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return distances in the precision of kept heatmaps."""
    return as_stored(distances).astype(np.float32)


def as_stored(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return distances as they are stored."""
    return distances.clip(max=_LARGEST_HALF).astype(np.float16)


@contextmanager
def _recorded(
    workspace: Workspace, path: str, name: str
) -> Iterator[tuple[zarr.Array[Any], dict[str, str]]]:
    """Open an array to write to it; the digests of its files are known after the block."""
    from padim_dist.store.runs.recording import RecordingStore  # imports Zarr

    store, found = RecordingStore(*store_at(workspace, path)), dict[str, str]()
    yield child_array(zarr_group(store, "r+"), name), found
    folder = path.rpartition("/")[2]
    found |= {f"{folder}/{key}": digest for key, digest in store.digests.items()}


@dataclass(frozen=True)
class DriftFigures:
    """Stored drift of a group in a run; see `padim_dist.core.drift.Drift`.

    `digests` has the digest of its map; earlier versions kept none.
    """

    images: int
    drift: float
    expected: float
    noise: float
    z: float
    digests: Digests = field(default_factory=dict)


@dataclass(frozen=True)
class RunDrift:
    """Drift of a run: mean embeddings of shards (temporary), maps, figures; see `Run.drift`."""

    workspace: Workspace
    run: str

    @property
    def maps_path(self) -> str:
        """Zarr group of the drift maps."""
        return f"{self.run}/drift.zarr"

    @property
    def _means(self) -> str:
        return f"{self.run}/means.zarr"

    def _receipt(self, group: str) -> str:
        return f"{self.run}/drift/{group_slug(group)}.json"

    def create(self, shards: int, numbers: int, groups: Sequence[str], grid: Grid) -> None:
        """Create the arrays, unless they exist, given the most numbers in an embedding of a group.

        `groups` are in the order of their drift maps; `grid` is the finest patch grid.
        """
        means = open_zarr_group(self.workspace, self._means, "a")
        if "mean" not in means:
            create_array(means, "mean", (shards, numbers), "float32", chunks=(1, numbers))
        maps = open_zarr_group(self.workspace, self.maps_path, "a")
        if "ratio" not in maps:
            names = ("group", "y", "x")
            shape, chunks = (len(groups), *grid), (1, *grid)
            create_array(maps, "ratio", shape, "float32", chunks=chunks, dimension_names=names)
            maps.attrs["groups"] = list(groups)

    def write_mean(self, place: int, mean: npt.NDArray[np.float32]) -> None:
        """Write the mean embedding of the shard at a place: its levels, concatenated."""
        open_array(self.workspace, self._means, "mean", "r+")[place, : len(mean)] = mean

    def read_mean(self, shards: Sequence[tuple[int, int]], numbers: int) -> npt.NDArray[np.float64]:
        """Return the mean embedding over shards, given (place, images) of each, and its numbers."""
        array = open_array(self.workspace, self._means, "mean", "r")
        total = np.zeros(numbers)
        for place, images in shards:
            total += images * np.asarray(array[place, :numbers], np.float64)
        return total / sum(images for _, images in shards)

    def write(
        self, place: int, group: str, ratio: npt.NDArray[np.float32], figures: DriftFigures
    ) -> DriftFigures:
        """Write the map (y, x) of the group at a place, then its figures: they are its receipt.

        Returns them, with the digest of the map.
        """
        with _recorded(self.workspace, self.maps_path, "ratio") as (array, digests):
            array[place] = ratio
        figures = replace(figures, digests=digests)
        self.workspace.folder.create_json(self._receipt(group), asdict(figures))
        return figures

    def find(self, group: str) -> DriftFigures | None:
        """Return the figures of a group; None if it was not measured yet."""
        return find_receipt(self.workspace.folder, self._receipt(group), DriftFigures)

    def read(self, group: str) -> DriftFigures | None:
        """Return the figures of a group; None if there are none.

        Raises
        ------
        DamagedFileError
            If their file is damaged.
        """
        return find_record(self.workspace.folder, self._receipt(group), DriftFigures)

    def forget(self, group: str) -> None:
        """Remove the figures of a group, so that it is measured again."""
        self.workspace.folder.remove(self._receipt(group))

    def has_means(self) -> bool:
        """Return whether the mean embeddings of the shards are kept."""
        return self.workspace.folder.exists(self._means)

    def remove_means(self) -> None:
        """Remove the mean embeddings of the shards."""
        self.workspace.folder.remove_tree(self._means)
