"""Joining and sorting tables of any size in bounded memory, in a temporary folder.

DuckDB joins Parquet files under a memory limit. The result is sorted in runs, and the runs are
merged while they are read, so memory does not grow with the archive. (DuckDB's own sort fails on
about a hundred times its memory.)
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.archive.listing.cut import COST_OF_AN_IMAGE, MOST_BYTES, Total
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.errors import ResourceError
from padim_dist.redaction import redacted

ROWS_A_GROUP = 10_240
"""Rows in a row group of the temporary Parquet files."""
_ROWS_A_READ = 1024
_ROWS_A_MERGE = 128
_ROWS_A_RUN = 51_200
_ORDER = [(name, "ascending") for name in ("group", "split", "uri", "offset")]
_ORDERED = [ROWS_SCHEMA.get_field_index(name) for name, _ in _ORDER]
_Row = tuple[Any, ...]
_MEMORY = ("64MB", "256MB", "1GB", "4GB")
Answer = TypeVar("Answer")
_TOTALS = f"""
SELECT "group", split, count(*), sum(least(length, {MOST_BYTES}) + {COST_OF_AN_IMAGE})::BIGINT
FROM rows GROUP BY ALL
"""


@dataclass(frozen=True)
class SortedRows:
    """Rows in binary order of group, split, uri and offset; rows without a group come last.

    Attributes
    ----------
    runs : list of Path
        Parquet files, each in order.
    totals : mapping
        Number and cost of the rows of each (group, split).
    """

    runs: list[Path]
    totals: dict[tuple[str | None, str], Total]

    @property
    def images(self) -> int:
        """Number of rows."""
        return sum(total.images for total in self.totals.values())

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows in order, in parts with `ROWS_SCHEMA`."""
        with ExitStack() as stack:
            files = [stack.enter_context(pq.ParquetFile(run)) for run in self.runs]
            if len(files) == 1:
                for batch in files[0].iter_batches(_ROWS_A_READ):
                    yield pa.Table.from_batches([batch])
                return
            rows = heapq.merge(*map(_rows, files), key=_place)
            while part := list(islice(rows, _ROWS_A_READ)):
                yield pa.table([*map(list, zip(*part, strict=True))], schema=ROWS_SCHEMA)


class Workbench(ExitStack):
    """A temporary folder for joins and sorts; leaving the ``with`` deletes it.

    Attributes
    ----------
    folder : Path
        Holds the temporary files.
    """

    def __init__(self) -> None:
        super().__init__()
        # Arrow's own allocator keeps much of the memory that is freed.
        self.callback(pa.set_memory_pool, pa.default_memory_pool())
        pa.set_memory_pool(pa.system_memory_pool())
        self.folder = Path(self.enter_context(TemporaryDirectory(prefix="padim-dist-index-")))

    def keep(self, name: str, tables: Iterable[pa.Table], schema: pa.Schema) -> Path:
        """Write the columns of a schema of all tables to one Parquet file."""
        path = self.folder / f"{name}.parquet"
        with pq.ParquetWriter(path, schema, write_statistics=False) as writer:
            for table in tables:
                writer.write_table(table.select(schema.names).cast(schema), ROWS_A_GROUP)
        return path

    def ask(
        self, tables: dict[str, Path], work: Callable[[duckdb.DuckDBPyConnection], Answer]
    ) -> Answer:
        """Run `work` in DuckDB on Parquet files, with the lowest memory limit that is enough.

        SQL has the function `redacted`.

        Raises
        ------
        ResourceError
            If 4 GB are not enough.
        """
        temporary = str(self.folder / "duckdb")
        for memory in _MEMORY:
            config = {"memory_limit": memory, "threads": "1", "temp_directory": temporary}
            with duckdb.connect(config={**config}) as database:
                database.create_function("redacted", redacted, ["VARCHAR"], "VARCHAR")
                for name, path in tables.items():
                    database.read_parquet(str(path)).create_view(name)
                try:
                    return work(database)
                except duckdb.OutOfMemoryException as error:
                    found = error
        rows = max(pq.read_metadata(path).num_rows for path in tables.values())
        raise ResourceError(f"{rows} rows cannot be joined in {memory} of memory: {found}")

    def select(
        self, name: str, tables: dict[str, Path], query: str, *, is_kept: bool = False
    ) -> Path:
        """Write the result of a query to a Parquet file, in no particular order.

        `is_kept` says whether the file goes to a workspace: it is then as small as others there.
        """
        path = self.folder / f"{name}.parquet"
        codec = "zstd" if is_kept else "snappy"

        def write(database: duckdb.DuckDBPyConnection) -> None:
            found = database.sql(query)
            found.write_parquet(str(path), row_group_size=ROWS_A_GROUP, compression=codec)

        self.ask(tables, write)
        return path

    def sort(self, path: Path) -> SortedRows:
        """Sort the rows of a Parquet file with the columns of `ROWS_SCHEMA`."""
        counted = self.ask({"rows": path}, lambda database: database.sql(_TOTALS).fetchall())
        totals = {(group, split): Total(images, cost) for group, split, images, cost in counted}
        runs: list[Path] = []
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_A_RUN):
                run = pa.Table.from_batches([batch]).cast(ROWS_SCHEMA).sort_by(_ORDER)
                runs.append(path.with_suffix(f".run-{len(runs):06d}"))
                pq.write_table(run, runs[-1], row_group_size=_ROWS_A_READ, write_statistics=False)
        return SortedRows(runs, totals)


def _rows(file: pq.ParquetFile) -> Iterator[_Row]:
    for batch in file.iter_batches(_ROWS_A_MERGE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _place(row: _Row) -> _Row:
    """Return the sort key of a row; Python and UTF-8 order strings alike."""
    group, split, uri, offset = (row[column] for column in _ORDERED)
    return group is None, group or "", split, uri, offset
