"""Drift of a run: mean embeddings of its shards (temporary), drift maps and figures by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.geometry import Grid
from padim_dist.store.arrays import compressor, open_array, open_zarr_group
from padim_dist.store.workspace import Workspace, group_slug


@dataclass(frozen=True)
class DriftFigures:
    """Stored drift of a group in a run; see `padim_dist.core.drift.Drift`."""

    images: int
    drift: float
    expected: float
    noise: float
    z: float


@dataclass(frozen=True)
class RunDrift:
    """Drift of a run; get it from `Run.drift`."""

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
        """Create the arrays, unless they exist.

        Parameters
        ----------
        shards : int
            Shards of the run: each writes a chunk of ``mean``.
        numbers : int
            Numbers in an embedding.
        groups : sequence of str
            Groups of the run, in the order of their drift maps.
        grid : (int, int)
            The finest patch grid.
        """
        means = open_zarr_group(self.workspace, self._means, "a")
        if "mean" not in means:
            means.create_array(
                "mean",
                shape=(shards, numbers),
                dtype="float32",
                chunks=(1, numbers),
                compressors=compressor(),
                fill_value=float("nan"),
            )
        maps = open_zarr_group(self.workspace, self.maps_path, "a")
        if "ratio" not in maps:
            maps.create_array(
                "ratio",
                shape=(len(groups), *grid),
                dtype="float32",
                chunks=(1, *grid),
                compressors=compressor(),
                fill_value=float("nan"),
                dimension_names=("group", "y", "x"),
            )
            maps.attrs["groups"] = list(groups)

    def write_mean(self, place: int, mean: npt.NDArray[np.float32]) -> None:
        """Write the mean embedding of the shard at a place: its levels, concatenated."""
        open_array(self.workspace, self._means, "mean", "r+")[place] = mean

    def read_mean(self, shards: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
        """Return the mean embedding over shards, given (place, images) of each."""
        array = open_array(self.workspace, self._means, "mean", "r")
        total = np.zeros(array.shape[1])
        for place, images in shards:
            total += images * np.asarray(array[place], np.float64)
        return total / sum(images for _, images in shards)

    def write(
        self, place: int, group: str, ratio: npt.NDArray[np.float32], figures: DriftFigures
    ) -> None:
        """Write the map (y, x) of the group at a place, then its figures: they are its receipt."""
        open_array(self.workspace, self.maps_path, "ratio", "r+")[place] = ratio
        self.workspace.folder.create_json(self._receipt(group), asdict(figures))

    def find(self, group: str) -> DriftFigures | None:
        """Return the figures of a group; None if it was not measured yet."""
        values = self.workspace.folder.find_json(self._receipt(group))
        return DriftFigures(**values) if values else None

    def remove_means(self) -> None:
        """Remove the mean embeddings of the shards."""
        self.workspace.folder.remove_tree(self._means)


def read_figures(values: Mapping[str, Mapping[str, Any]]) -> dict[str, DriftFigures]:
    """Read the figures of groups from JSON."""
    return {group: DriftFigures(**figures) for group, figures in values.items()}
