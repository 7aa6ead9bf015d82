"""The tables of a run: a file for each shard, or a few files after compaction.

The score table of a shard is the shard's receipt. Compaction (`store/compaction.py`) writes the
same rows into a few files and then ``compact.json``, which replaces these receipts.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.core.status import SCORED
from padim_dist.store.run_rows import REGIONS_SCHEMA, SCORES_SCHEMA, RegionRow, ScoreRow
from padim_dist.store.workspace import Workspace

SCORES, REGIONS = "scores", "regions"
SCHEMAS = {SCORES: SCORES_SCHEMA, REGIONS: REGIONS_SCHEMA}
_THREADS = 8


@dataclass(frozen=True)
class ShardCounts:
    """Counts of the rows of a shard.

    Attributes
    ----------
    statuses : mapping of str to int
        Rows by status.
    flagged : int or None
        Flagged rows; None if no row has a p-value.
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
        return self.done - self.statuses.get(SCORED, 0)

    @classmethod
    def of(cls, table: pa.Table) -> ShardCounts:
        """Count the columns ``status`` and ``flagged`` of a score table."""
        counts = pc.value_counts(table["status"]).to_pylist()
        statuses = {item["values"]: item["counts"] for item in counts}
        return cls(statuses, pc.sum(table["flagged"]).as_py())  # null if all are


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


def find_compacted(workspace: Workspace, run: str) -> Compacted | None:
    """Return the receipt of a run's compaction, given the run's folder; None if there is none."""
    values = workspace.folder.find_json(compact_path(run))
    return Compacted(**values) if values else None


def compact_path(run: str) -> str:
    """Return the path of the receipt of a compaction, given the run's folder."""
    return f"{run}/compact.json"


@dataclass(frozen=True)
class RunTable:
    """A table of a run: its score table or its regions; get it from `Run`.

    Attributes
    ----------
    workspace : Workspace
        The workspace.
    run : str
        Folder of the run.
    name : str
        ``"scores"`` or ``"regions"``.
    """

    workspace: Workspace
    run: str
    name: str

    @property
    def path(self) -> str:
        """Folder of the table's files."""
        return f"{self.run}/{self.name}"

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table in this version."""
        return SCHEMAS[self.name]

    def shard(self, place: int) -> str:
        """Return the path of the file of the shard at a place in the run."""
        return f"{self.path}/shard-{place:07d}.parquet"

    def create(self, place: int, table: pa.Table) -> bool:
        """Write the table of a shard; False if there is one already."""
        return self.workspace.folder.create(self.shard(place), _parquet(table))

    def replace(self, place: int, table: pa.Table) -> None:
        """Write the table of a shard over anything that a killed task has left."""
        self.workspace.folder.put(self.shard(place), _parquet(table))

    def make(self, rows: Sequence[ScoreRow] | Sequence[RegionRow]) -> pa.Table:
        """Return rows as a table."""
        return pa.Table.from_pylist([vars(row) for row in rows], self.schema)

    def files(self) -> list[str]:
        """Return the paths of the files that hold the table, in the order of the shards."""
        # In this order: if files are missing from the listing, the receipt is there already.
        names = self.workspace.folder.list(self.path)
        receipt = find_compacted(self.workspace, self.run)
        kept = receipt.files[self.name] if receipt else filter(_is_shard, names)
        return [f"{self.path}/{name}" for name in kept]

    def find_counts(self, place: int) -> ShardCounts | None:
        """Count the rows of a shard; None if it has no file."""
        folder, path = self.workspace.folder, self.shard(place)
        return self._count(path) if folder.exists(path) else None

    def finished(self) -> set[int]:
        """Return the places of finished shards."""
        names = self.workspace.folder.list(self.path)
        receipt = find_compacted(self.workspace, self.run)
        if receipt:
            return set(range(receipt.places))
        return {int(name[6:-8]) for name in names if _is_shard(name)}

    def count(self, places: Iterable[int]) -> dict[int, ShardCounts]:
        """Count the rows of finished shards, by place."""
        places = sorted(places)
        if not find_compacted(self.workspace, self.run):
            try:
                with ThreadPoolExecutor(_THREADS) as pool:
                    counts = pool.map(self._count, map(self.shard, places))
                    return dict(zip(places, counts, strict=True))
            except FileNotFoundError:
                if not find_compacted(self.workspace, self.run):
                    raise
                # Compacted in the meantime.
        shards = self.read_shards(("shard", "status", "flagged"))
        counted = {place: ShardCounts.of(table) for place, table in shards}
        return {place: counted[place] for place in places}

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read columns, a file at a time."""
        for path in self.files():
            with self.workspace.folder.fs.open(self.workspace.at(path), "rb") as file:
                yield pq.read_table(file, columns=list(columns))

    def read_shards(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Read the rows of each shard with its place, in order; one row group is in memory.

        `columns` (default: all) must include ``shard``.
        """
        for path in self.files():
            file = self.workspace.folder.fs.open(self.workspace.at(path), "rb")
            with file, pq.ParquetFile(file) as parquet:
                for number in range(parquet.num_row_groups):
                    table = parquet.read_row_group(number, columns)
                    places = table["shard"].to_numpy()
                    starts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
                    for start, stop in pairwise(starts):
                        if stop > start:
                            yield int(places[start]), table.slice(start, stop - start)

    def p_values(self) -> npt.NDArray[np.float64]:
        """Read all p-values, shape (n,)."""
        columns = [table["p_value"].drop_null().to_numpy() for table in self.read(["p_value"])]
        return np.concatenate(columns) if columns else np.empty(0)

    def _count(self, path: str) -> ShardCounts:
        # Not `read_table`, which takes twice as long for a small file.
        file = self.workspace.folder.fs.open(self.workspace.at(path), "rb")
        with file, pq.ParquetFile(file) as parquet:
            return ShardCounts.of(parquet.read(["status", "flagged"], use_threads=False))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet")
