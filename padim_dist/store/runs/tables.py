"""The tables of a run: files, one for each shard or a few compacted ones.

The score table of a shard is the shard's receipt. Compaction writes the same rows into a few files
and then ``compact.json``, which replaces these receipts. See also `padim_dist.store.runs.digests`.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.core.status import SCORED, count_unsettled
from padim_dist.errors import DamagedFileError
from padim_dist.store.parquet import (
    COMPACT_ADVICE,
    find_damaged,
    open_parquet,
    reports_parquet_damage,
    table_advice,
)
from padim_dist.store.records import find_record
from padim_dist.store.runs.digests import Digests, ShardFiles, digest_of
from padim_dist.store.runs.rows import REGIONS, SCHEMAS, SCORES, RegionRow, ScoreRow
from padim_dist.store.workspace import Workspace

_THREADS = 8
_ADDED = "added-"


@dataclass(frozen=True)
class ShardCounts:
    """Rows of a shard by status, and its files; without files if the run is compacted."""

    statuses: dict[str, int]
    files: ShardFiles | None = None

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
    def of(cls, table: pa.Table, files: ShardFiles | None = None) -> ShardCounts:
        """Count the column ``status`` of a score table."""
        counts = pc.value_counts(table["status"]).to_pylist()
        return cls({item["values"]: item["counts"] for item in counts}, files)


@dataclass(frozen=True)
class Compacted:
    """Receipt of a compaction: by table the names of its files and its rows; digests of the files.

    Version 0.4 and earlier kept no digests.
    """

    places: int
    files: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]
    compacted_at: str
    digests: Digests = field(default_factory=dict)


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
        return f"{self.run}/{self._shard(place)}"

    def add(self, rows: Sequence[RegionRow]) -> Digests:
        """Write rows of several shards to one file more; compaction leaves it as it is."""
        return self._put(f"{self.name}/{_ADDED}{uuid.uuid4().hex[:16]}.parquet", self.make(rows))

    def create(self, place: int, table: pa.Table) -> Digests | None:
        """Write the table of a shard; None if there is one already."""
        data = _parquet(table)
        is_new = self.workspace.folder.create(self.shard(place), data)
        return {self._shard(place): digest_of(data)} if is_new else None

    def replace(self, place: int, table: pa.Table) -> Digests:
        """Write the table of a shard over an older one, or what a killed task has left."""
        return self._put(self._shard(place), table)

    def _shard(self, place: int) -> str:
        return f"{self.name}/shard-{place:07d}.parquet"

    def _put(self, file: str, table: pa.Table) -> Digests:
        data = _parquet(table)
        self.workspace.folder.put(f"{self.run}/{file}", data)
        return {file: digest_of(data)}

    def make(self, rows: Sequence[ScoreRow] | Sequence[RegionRow]) -> pa.Table:
        """Return rows as a table."""
        return pa.Table.from_pylist([vars(row) for row in rows], self.schema)

    def shard_files(self) -> list[str]:
        """Return the paths of the files of the shards, in their order, or of the compacted ones."""
        return [path for path in self.files() if not is_added(PurePosixPath(path).name)]

    def files(self) -> list[str]:
        """Return the paths of the files that hold the table, in the order of the shards."""
        # In this order: if files are missing from the listing, the receipt is there already.
        names = self.workspace.folder.list(self.path)
        receipt = find_compacted(self.workspace, self.run)
        kept = receipt.files[self.name] if receipt else filter(_is_shard, names)
        return [f"{self.path}/{name}" for name in (*kept, *filter(is_added, names))]

    def find_counts(self, place: int) -> ShardCounts | None:
        """Count the rows of a shard; None if it has no file."""
        try:
            return self._count(place)
        except FileNotFoundError:
            return None

    def read_statuses(self, place: int) -> dict[str, str]:
        """Read the status of each image of a finished shard, by image id."""
        with open_parquet(self.workspace.folder, self.shard(place), self._advice) as parquet:
            table = parquet.read(["image_id", "status"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def added_files(self) -> list[str]:
        """Return the paths of the files that `add` has written."""
        return [f"{self.path}/{n}" for n in self.workspace.folder.list(self.path) if is_added(n)]

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
                    counts = pool.map(self._count, places)
                    return dict(zip(places, counts, strict=True))
            except FileNotFoundError:
                if not find_compacted(self.workspace, self.run):
                    raise
                # Compacted in the meantime.
        shards = self.read_shards(("shard", "status"))
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

    def read_shard(self, place: int) -> pa.Table:
        """Read the rows of the shard at a place; none if the table has none of it.

        Other row groups are skipped, by the statistics of the column ``shard``.
        """
        is_compact = find_compacted(self.workspace, self.run) is not None
        tables = [self.make([])]
        for path in self.files():
            if is_compact or path == self.shard(place) or is_added(PurePosixPath(path).name):
                with open_parquet(self.workspace.folder, path, self._advice) as parquet:
                    for number in range(parquet.num_row_groups):
                        if _may_have(parquet, number, place):
                            rows = parquet.read_row_group(number)
                            tables.append(rows.filter(pc.field("shard") == place))
        # Files of earlier versions have fewer columns.
        return pa.concat_tables(tables[1:] or tables, promote_options="default")

    def _count(self, place: int) -> ShardCounts:
        # The whole file: for its digest, and since it is small.
        path = self.shard(place)
        data = self.workspace.folder.read(path)
        with reports_parquet_damage(self.workspace.at(path), self._advice):
            parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            table = parquet.read(["status"], use_threads=False)
        file = self.workspace.at(path)
        files = ShardFiles.from_receipt(parquet.schema_arrow, file, self._advice)
        return ShardCounts.of(table, files.also({self._shard(place): digest_of(data)}))


def _may_have(parquet: pq.ParquetFile, number: int, place: int) -> bool:
    """Return whether a row group may have rows of the shard at a place, by its statistics."""
    column = parquet.schema_arrow.get_field_index("shard")
    statistics = parquet.metadata.row_group(number).column(column).statistics
    return statistics is None or bool(statistics.min <= place <= statistics.max)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def is_added(name: str) -> bool:
    """Return whether the file with a name was written by `RunTable.add`."""
    return name.startswith(_ADDED)


def is_receipt(path: str) -> bool:
    """Return whether other files of a run count as complete because the one at a path is there."""
    place, name = PurePosixPath(path).parent.name, PurePosixPath(path).name
    return name == "compact.json" or (place == SCORES and _is_shard(name))


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet")
