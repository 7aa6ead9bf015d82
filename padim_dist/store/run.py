"""Runs: what was asked, the score table of each shard, the heatmaps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from padim_dist.core.geometry import Grid
from padim_dist.storage import Folder
from padim_dist.store.arrays import compressor, open_zarr_group
from padim_dist.store.workspace import Workspace

SCORES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("score", pa.float32()),
        ("p_value", pa.float64()),
        ("flagged", pa.bool_()),
        ("p_extrapolated", pa.bool_()),
        ("peak_y", pa.int32()),
        ("peak_x", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("heatmap_row", pa.int64()),
        ("shard", pa.int32()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata={"padim_dist.scores": "2"},
)
REGIONS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("group", pa.string()),
        ("label", pa.string()),
        ("region", pa.int32()),
        ("area", pa.int64()),
        ("top", pa.int32()),
        ("left", pa.int32()),
        ("bottom", pa.int32()),
        ("right", pa.int32()),
        ("peak", pa.float32()),
        ("peak_y", pa.int32()),
        ("peak_x", pa.int32()),
        ("p_value", pa.float64()),
        ("shard", pa.int32()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
    ],
    metadata={"padim_dist.regions": "1"},
)
MAPS_A_CHUNK = 32
"""Heatmaps in one chunk: single ones would be slow to write (see docs/formats.md)."""
_LARGEST_HALF = float(np.finfo(np.float16).max)


def heatmap_rows(images: Sequence[int]) -> int:
    """Rows that every shard is given in the heatmap array: whole chunks for the largest."""
    return -(-max(images) // MAPS_A_CHUNK) * MAPS_A_CHUNK


def create_heatmaps(folder: Folder, run: str, shards: int, rows: int, grid: Grid) -> None:
    """Create the heatmap array of a run: one Zarr shard an image shard."""
    group = open_zarr_group(folder, f"{run}/heatmaps.zarr", "a")
    if "distance" not in group:
        group.create_array(
            "distance",
            shape=(shards * rows, *grid),
            dtype="float16",
            chunks=(MAPS_A_CHUNK, *grid),
            shards=(rows, *grid),
            compressors=compressor(),
            fill_value=float("nan"),
            dimension_names=("row", "y", "x"),
        )


def write_heatmaps(folder: Folder, run: str, place: int, distances: npt.NDArray[np.float32]) -> int:
    """Write a shard's heatmaps as one whole Zarr shard.

    Parameters
    ----------
    folder, run
        The run's folder inside the workspace.
    place : int
        The shard's place among the shards of the run.
    distances : array
        Patch distances (n, h, w); what is beyond float16 becomes its largest number.

    Returns
    -------
    int
        Row of the first heatmap.
    """
    array = open_array(folder, run)
    assert array.shards is not None
    rows = array.shards[0]
    whole = np.full((rows, *distances.shape[1:]), np.nan, np.float16)
    whole[: len(distances)] = distances.clip(max=_LARGEST_HALF)
    array[place * rows : (place + 1) * rows] = whole
    return place * rows


def open_array(folder: Folder, run: str) -> zarr.Array[Any]:
    """Heatmap array of a run."""
    array = open_zarr_group(folder, f"{run}/heatmaps.zarr", "r+")["distance"]
    assert isinstance(array, zarr.Array)
    return array


def read_heatmaps(folder: Folder, run: str, rows: Sequence[int]) -> npt.NDArray[np.float32]:
    """Some heatmaps of a run: patch distances (n, h, w)."""
    array = open_zarr_group(folder, f"{run}/heatmaps.zarr", "r")["distance"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array.oindex[np.asarray(rows)], np.float32)


def scores_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Score table of rows."""
    return pa.Table.from_pylist(list(rows), SCORES_SCHEMA)


def write_scores(folder: Folder, path: str, table: pa.Table) -> bool:
    """Write a shard's score table, its receipt, so it comes last; False if one is there."""
    return folder.create(path, _parquet(table))


@dataclass(frozen=True)
class ShardCounts:
    """Rows of a shard: its receipt in short.

    Attributes
    ----------
    statuses : mapping of str to int
        Rows by status.
    flagged : int or None
        Rows that are flagged; None where none has a p-value.
    """

    statuses: dict[str, int]
    flagged: int | None

    @property
    def done(self) -> int:
        """Rows of the shard."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """Rows that are not scored."""
        return self.done - self.statuses.get("scored", 0)

    @classmethod
    def of(cls, table: pa.Table) -> ShardCounts:
        """Count the columns ``status`` and ``flagged`` of a score table."""
        counts = pc.value_counts(table["status"]).to_pylist()
        statuses = {item["values"]: item["counts"] for item in counts}
        return cls(statuses, pc.sum(table["flagged"]).as_py())  # null if all are


def count_rows(folder: Folder, path: str) -> ShardCounts:
    """Rows of a shard's score table."""
    # Not `read_table`, which takes twice as long for a small file: there may be many.
    with folder.fs.open(folder.at(path), "rb") as file, pq.ParquetFile(file) as parquet:
        return ShardCounts.of(parquet.read(["status", "flagged"], use_threads=False))


def write_regions(folder: Folder, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the regions of a shard, replacing what a killed task may have left."""
    folder.put(path, _parquet(pa.Table.from_pylist(list(rows), REGIONS_SCHEMA)))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def list_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """``run.json`` of all runs, the one that was asked for last at the end."""
    folder = workspace.folder
    found = (folder.find_json(f"{workspace.run(name)}/run.json") for name in folder.list("runs"))
    return sorted((run for run in found if run), key=lambda run: str(run["asked_at"]))
