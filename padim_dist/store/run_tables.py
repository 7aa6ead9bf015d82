"""The tables of a run: row types, schemas and files, one for each shard or a few compacted ones.

The score table of a shard is the shard's receipt. Compaction (`store/compaction.py`) writes the
same rows into a few files and then ``compact.json``, which replaces these receipts.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.core.status import SCORED, count_unsettled
from padim_dist.errors import DamagedFileError
from padim_dist.store.parquet import COMPACT_ADVICE, find_damaged, open_parquet, table_advice
from padim_dist.store.records import find_record
from padim_dist.store.workspace import Workspace

Int64 = int
Float32 = float
"""Columns of other numbers are int32 and float64."""
_TYPES = {
    "str": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int32(),
    "Int64": pa.int64(),
    "float": pa.float64(),
    "Float32": pa.float32(),
    "datetime": pa.timestamp("us", tz="UTC"),
}


@dataclass(kw_only=True)
class ScoreRow:
    """A row of the score table; its attributes are the columns; see docs/formats.md."""

    image_id: str
    uri: str
    member: str | None
    etag: str | None
    group: str | None
    split: str
    label: str | None
    status: str
    error: str | None
    score: Float32 | None = None
    p_value: float | None = None
    flagged: bool | None = None
    p_extrapolated: bool | None = None
    left_out: bool | None = None
    peak_y: int | None = None
    peak_x: int | None = None
    width: int | None
    height: int | None
    heatmap_row: Int64 | None = None
    shard: int
    run_id: str
    model_id: str
    scored_at: datetime


@dataclass
class RegionRow:
    """A row of the table of regions; its attributes are the columns; see docs/formats.md."""

    image_id: str
    uri: str
    member: str | None
    group: str | None
    label: str | None
    region: int
    area: Int64
    top: int
    left: int
    bottom: int
    right: int
    peak: Float32
    peak_y: int
    peak_x: int
    p_value: float | None
    shard: int
    run_id: str
    model_id: str


def _schema(row: type, name: str, version: str) -> pa.Schema:
    columns = [(f.name, _TYPES[str(f.type).removesuffix(" | None")]) for f in fields(row)]
    return pa.schema(columns, metadata={f"padim_dist.{name}": version})


SCORES, REGIONS = "scores", "regions"
SCORES_SCHEMA = _schema(ScoreRow, SCORES, "2")
REGIONS_SCHEMA = _schema(RegionRow, REGIONS, "1")
SCHEMAS = {SCORES: SCORES_SCHEMA, REGIONS: REGIONS_SCHEMA}
_THREADS = 8


@dataclass(frozen=True)
class ShardCounts:
    """Rows of a shard by status, and its flagged rows: None if no row has a p-value."""

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

    @property
    def unsettled(self) -> int:
        """Rows that are not settled: the same call tries them again."""
        return count_unsettled(self.statuses)

    @classmethod
    def of(cls, table: pa.Table) -> ShardCounts:
        """Count the columns ``status`` and ``flagged`` of a score table."""
        counts = pc.value_counts(table["status"]).to_pylist()
        statuses = {item["values"]: item["counts"] for item in counts}
        return cls(statuses, pc.sum(table["flagged"]).as_py())  # null if all are


@dataclass(frozen=True)
class Compacted:
    """Receipt of a compaction, with the names of the files and the rows of each table."""

    places: int
    files: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]
    compacted_at: str


def find_compacted(workspace: Workspace, run: str) -> Compacted | None:
    """Return the receipt of a run's compaction, given the run's folder; None if there is none.

    Raises
    ------
    DamagedFileError
        If it is damaged.
    """
    path = f"{run}/compact.json"
    found = find_record(workspace.folder, path, Compacted, COMPACT_ADVICE)
    if found and (lacking := {SCORES, REGIONS} - found.files.keys()):
        what = f"files: {', '.join(sorted(lacking))} missing"
        raise DamagedFileError(workspace.at(path), what, COMPACT_ADVICE)
    return found


@dataclass(frozen=True)
class RunTable:
    """A table of a run, given the run's folder: `Run.scores` or `Run.regions`."""

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

    @property
    def _advice(self) -> str:
        """What to do about a damaged file of the table."""
        return table_advice(self.workspace.at(self.run))

    def find_damaged(self) -> list[DamagedFileError]:
        """Return which of its files are damaged or missing, by the end of each."""
        return find_damaged(self.workspace.folder, self.files(), self._advice)

    def shard(self, place: int) -> str:
        """Return the path of the file of the shard at a place in the run."""
        return f"{self.path}/shard-{place:07d}.parquet"

    def create(self, place: int, table: pa.Table) -> bool:
        """Write the table of a shard; False if there is one already."""
        return self.workspace.folder.create(self.shard(place), _parquet(table))

    def replace(self, place: int, table: pa.Table) -> None:
        """Write the table of a shard over an older one, or what a killed task has left."""
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

    def read_statuses(self, place: int) -> dict[str, str]:
        """Read the status of each image of a finished shard, by image id."""
        with open_parquet(self.workspace.folder, self.shard(place), self._advice) as parquet:
            table = parquet.read(["image_id", "status"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

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
            with open_parquet(self.workspace.folder, path, self._advice) as parquet:
                yield parquet.read(list(columns))

    def read_shards(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Read the rows of each shard with its place, in order; one row group is in memory.

        `columns` (default: all) must include ``shard``.
        """
        for path in self.files():
            with open_parquet(self.workspace.folder, path, self._advice) as parquet:
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
        with open_parquet(self.workspace.folder, path, self._advice) as parquet:
            return ShardCounts.of(parquet.read(["status", "flagged"], use_threads=False))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet")
