"""The tables of a run: files, one for each shard or a few compacted ones.

The score table of a shard is the shard's receipt. Compaction writes the same rows into a few files
and then ``compact.json``, which replaces these receipts.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.core.status import SCORED, count_unsettled
from padim_dist.errors import DamagedFileError
from padim_dist.store.parquet import COMPACT_ADVICE, find_damaged, open_parquet, table_advice
from padim_dist.store.records import find_record
from padim_dist.store.runs.rows import REGIONS, SCHEMAS, SCORES, RegionRow, ScoreRow
from padim_dist.store.workspace import Workspace

_THREADS = 8
_ADDED = "added-"


@dataclass(frozen=True)
class ShardCounts:
    """Rows of a shard by status."""

    statuses: dict[str, int]

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
        """Count the column ``status`` of a score table."""
        counts = pc.value_counts(table["status"]).to_pylist()
        return cls({item["values"]: item["counts"] for item in counts})


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

    def add(self, rows: Sequence[RegionRow]) -> None:
        """Write rows of several shards to one file more; compaction leaves it as it is."""
        name = f"{_ADDED}{uuid.uuid4().hex[:16]}.parquet"
        self.workspace.folder.put(f"{self.path}/{name}", _parquet(self.make(rows)))

    def create(self, place: int, table: pa.Table) -> bool:
        """Write the table of a shard; False if there is one already."""
        return self.workspace.folder.create(self.shard(place), _parquet(table))

    def replace(self, place: int, table: pa.Table) -> None:
        """Write the table of a shard over an older one, or what a killed task has left."""
        self.workspace.folder.put(self.shard(place), _parquet(table))

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

    def _count(self, path: str) -> ShardCounts:
        # Not `read_table`, which takes twice as long for a small file.
        with open_parquet(self.workspace.folder, path, self._advice) as parquet:
            return ShardCounts.of(parquet.read(["status"], use_threads=False))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def is_added(name: str) -> bool:
    """Return whether the file with a name was written by `RunTable.add`."""
    return name.startswith(_ADDED)


def _is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".parquet")
