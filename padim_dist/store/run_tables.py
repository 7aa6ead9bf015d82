"""Which files hold a run's tables: one a shard as it was scored, a few once compacted.

A shard's score table is its receipt. Compaction (`store/compaction.py`) writes the same
rows to few files, then ``compact.json``, the receipt that counts from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.store.run import REGIONS_SCHEMA, SCORES_SCHEMA, ShardCounts, count_rows
from padim_dist.store.workspace import Workspace

SCORES, REGIONS = "scores", "regions"
SCHEMAS = {SCORES: SCORES_SCHEMA, REGIONS: REGIONS_SCHEMA}
_THREADS = 8


@dataclass(frozen=True)
class Compacted:
    """Receipt of a compaction.

    Attributes
    ----------
    places : int
        Shards of the run: all of them are covered.
    files : mapping of str to sequence of str
        Names of the files of each table, in order.
    rows : mapping of str to int
        Rows of each table.
    compacted_at : str
        ISO 8601, UTC.
    """

    places: int
    files: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]
    compacted_at: str


def compact_path(workspace: Workspace, run_id: str) -> str:
    """Path of the receipt of a compaction."""
    return f"{workspace.run(run_id)}/compact.json"


def find_compacted(workspace: Workspace, run_id: str) -> Compacted | None:
    """Receipt of a run's compaction; None if it has none."""
    values = workspace.folder.find_json(compact_path(workspace, run_id))
    return Compacted(**values) if values else None


def table_files(workspace: Workspace, run_id: str, table: str) -> list[str]:
    """Paths, inside the workspace, of the files that hold a table of a run, in shard order."""
    path = f"{workspace.run(run_id)}/{table}"
    # In this order: a listing that lacks removed files is older than no receipt.
    names = workspace.folder.list(path)
    receipt = find_compacted(workspace, run_id)
    kept = receipt.files[table] if receipt else [name for name in names if _is_shard(name)]
    return [f"{path}/{name}" for name in kept]


def finished_shards(workspace: Workspace, run_id: str) -> set[int]:
    """Shards of a run that have a receipt: one listing and one look for a compaction."""
    names = workspace.folder.list(f"{workspace.run(run_id)}/{SCORES}")
    receipt = find_compacted(workspace, run_id)
    if receipt:
        return set(range(receipt.places))
    return {int(name[6:-8]) for name in names if _is_shard(name)}


def count_shards(
    workspace: Workspace, run_id: str, places: Iterable[int]
) -> dict[int, ShardCounts]:
    """Rows of finished shards, by place."""
    places = sorted(places)
    if not find_compacted(workspace, run_id):
        paths = [workspace.scores(run_id, place) for place in places]
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                counts = pool.map(lambda path: count_rows(workspace.folder, path), paths)
                return dict(zip(places, counts, strict=True))
        except FileNotFoundError:
            if not find_compacted(workspace, run_id):
                raise
            # Compacted at this moment.
    columns = ("shard", "status", "flagged")
    counted = {
        place: ShardCounts.of(table) for place, table in read_by_shard(workspace, run_id, columns)
    }
    return {place: counted[place] for place in places}


def read_images(workspace: Workspace, run_id: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of the score table of a run, a file (of a shard, or of many) at a time."""
    for path in table_files(workspace, run_id, SCORES):
        with workspace.folder.fs.open(workspace.folder.at(path), "rb") as file:
            yield pq.read_table(file, columns=list(columns))


def read_by_shard(
    workspace: Workspace, run_id: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.Table]]:
    """Score rows with the place of their shard, in order; a row group at a time is in memory.

    Of `columns` (all, if not given) one must be ``shard``.
    """
    folder = workspace.folder
    for path in table_files(workspace, run_id, SCORES):
        with folder.fs.open(folder.at(path), "rb") as file, pq.ParquetFile(file) as parquet:
            for number in range(parquet.num_row_groups):
                table = parquet.read_row_group(number, columns)
                places = table["shard"].to_numpy()
                starts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
                for start, stop in pairwise(starts):
                    if stop > start:
                        yield int(places[start]), table.slice(start, stop - start)


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet")
