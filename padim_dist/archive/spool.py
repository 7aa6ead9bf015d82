"""The spool: rows on their way to a manifest, kept and sorted on disk.

Rows arrive in any order, page by page, and are written to temporary Parquet files.
DuckDB, held to little memory, joins what is known of them. Then runs of them are sorted,
and merged as they are read: however large an archive is, the memory of the process stays
the same. (DuckDB's own sort gives up where a hundred times its memory is to be sorted.)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.archive.manifest import COST_OF_AN_IMAGE, MOST_BYTES, ROWS_SCHEMA, Total
from padim_dist.errors import ResourceError

_ROWS_A_GROUP = 10_240
_ROWS_A_READ = 1024
_ROWS_A_MERGE = 128
_ROWS_A_RUN = 51_200
_ORDER = ("group", "split", "uri", "offset")
_ORDERED = [ROWS_SCHEMA.get_field_index(name) for name in _ORDER]
_Row = tuple[Any, ...]
_MEMORY = ("64MB", "256MB", "1GB", "4GB")
Answer = TypeVar("Answer")

_IMAGES = pa.schema(
    [
        *ROWS_SCHEMA,
        ("row", pa.int64()),
        ("key", pa.string()),
        ("masks", pa.list_(pa.string())),
    ]
)
_MASKS = pa.schema(
    [("path", pa.string()), ("uri", pa.string()), ("object", pa.string()), ("offset", pa.int64())]
)
_NOTES = pa.schema(
    [(name, pa.string()) for name in ("key", "group", "split", "label")] + [("rank", pa.int64())]
)

# Of members of one tar with the same name the last one counts, as for tar itself. A name that
# several objects have leads to no mask: a wrong mask would be worse than none.
_JOINED = """
WITH
repeated AS (
    SELECT uri, member, max("offset") AS latest FROM images
    WHERE member IS NOT NULL GROUP BY uri, member HAVING count(*) > 1
),
known AS (
    SELECT key, arg_max("group", rank) AS "group", arg_max(split, rank) AS split,
        arg_max(label, rank) AS label
    FROM notes GROUP BY key
),
named AS (
    SELECT path, arg_max(uri, "offset") AS uri FROM masks
    GROUP BY path HAVING count(DISTINCT object) = 1
),
wanted AS (
    SELECT row, unnest(masks) AS path, generate_subscripts(masks, 1) AS place FROM images
),
chosen AS (
    SELECT row, arg_min(named.uri, place) AS uri FROM wanted JOIN named USING (path) GROUP BY row
)
SELECT image_id, images.uri, images.member, "offset", length, size, etag,
    coalesce(known."group", images."group") AS "group",
    coalesce(known.split, images.split) AS split,
    coalesce(known.label, images.label) AS label,
    coalesce(images.mask_uri, chosen.uri) AS mask_uri
FROM images
LEFT JOIN repeated ON images.uri = repeated.uri AND images.member = repeated.member
LEFT JOIN known ON images.key = known.key
LEFT JOIN chosen ON images.row = chosen.row
WHERE latest IS NULL OR "offset" = latest
"""
_TOTALS = f"""
SELECT "group", split, count(*), sum(least(length, {MOST_BYTES}) + {COST_OF_AN_IMAGE})::BIGINT
FROM joined GROUP BY ALL
"""


@dataclass(frozen=True)
class Batch:
    """What a page of an archive holds, on its way to the spool.

    Attributes
    ----------
    images : list of dict
        `ROWS_SCHEMA`; ``masks``: where their mask may be, the best place first, unless
        ``mask_uri`` says it; ``key``: whose notes are theirs.
    masks : list of dict
        Images that may be masks: ``path``, what ``masks`` above speaks of; ``uri``, what
        reads it; ``object`` and ``offset``, where it is.
    notes : list of dict
        ``group``, ``split`` and ``label`` of the images with this ``key``, where not None; the
        highest ``rank`` counts.
    ignored : Counter
        What was left alone: how many, by suffix or reason.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    masks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


class Spool:
    """Takes batches in and gives sorted rows out; its folder is gone after the ``with``.

    Attributes
    ----------
    folder : Path
        Temporary, for what else must not be held in memory.
    images : int
        Rows taken in.
    ignored : Counter
        What was left alone so far, by suffix or reason.
    """

    def __init__(self) -> None:
        # Arrow's own allocator keeps much of what it is given back.
        self._pool = pa.default_memory_pool()
        pa.set_memory_pool(pa.system_memory_pool())
        self._temporary = TemporaryDirectory(prefix="padim-dist-index-")
        self.folder = Path(self._temporary.name)
        self.images = 0
        self.ignored: Counter[str] = Counter()
        self._tables = {
            name: _Table(self.folder / f"{name}.parquet", schema)
            for name, schema in (("images", _IMAGES), ("masks", _MASKS), ("notes", _NOTES))
        }

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for table in self._tables.values():
            table.writer.close()
        self._temporary.cleanup()
        pa.set_memory_pool(self._pool)

    def add(self, batch: Batch) -> None:
        """Take a batch in."""
        for row in batch.images:
            row["row"] = self.images
            self.images += 1
        self._tables["images"].add(batch.images)
        self._tables["masks"].add(batch.masks)
        self._tables["notes"].add(batch.notes)
        self.ignored.update(batch.ignored)

    def repeated_uris(self) -> tuple[int, str | None]:
        """How many uris more than one row has, and the first of them."""
        query = "SELECT uri FROM images GROUP BY uri HAVING count(*) > 1"
        query = f"SELECT count(*), min(uri) FROM ({query})"
        count, first = self._ask(lambda database: database.sql(query).fetchall()[0])
        return count, first

    def sort(self) -> SortedRows:
        """Join and sort what was taken in; after this nothing more is."""
        joined = self.folder / "joined.parquet"

        def join(database: duckdb.DuckDBPyConnection) -> list[Any]:
            database.sql(_JOINED).write_parquet(str(joined), row_group_size=_ROWS_A_GROUP)
            database.read_parquet(str(joined)).create_view("joined")
            return database.sql(_TOTALS).fetchall()

        rows = self._ask(join)
        totals = {(group, split): Total(images, cost) for group, split, images, cost in rows}
        left = sum(total.images for total in totals.values())
        if left < self.images:
            reason = "members of tar files replaced by a later one of the same name"
            self.ignored[reason] = self.images - left
        runs: list[Path] = []
        with pq.ParquetFile(joined) as file:
            for batch in file.iter_batches(_ROWS_A_RUN):
                run = pa.Table.from_batches([batch]).cast(ROWS_SCHEMA)
                runs.append(self.folder / f"run-{len(runs):06d}.parquet")
                pq.write_table(
                    run.sort_by([(key, "ascending") for key in _ORDER]),
                    runs[-1],
                    row_group_size=_ROWS_A_READ,
                    write_statistics=False,
                )
        return SortedRows(runs, totals)

    def _ask(self, work: Callable[[duckdb.DuckDBPyConnection], Answer]) -> Answer:
        """Let DuckDB work on the tables in little memory; in more where that is not enough."""
        for table in self._tables.values():
            table.close()
        temporary = str(self.folder / "duckdb")
        for memory in _MEMORY:
            config = {"memory_limit": memory, "threads": "1", "temp_directory": temporary}
            with duckdb.connect(config={**config}) as database:
                for name, table in self._tables.items():
                    database.read_parquet(str(table.path)).create_view(name)
                try:
                    return work(database)
                except duckdb.OutOfMemoryException as error:
                    found = error
        raise ResourceError(f"{self.images} rows cannot be joined in {memory} of memory: {found}")


@dataclass(frozen=True)
class SortedRows:
    """Rows by group, split, uri and offset: in binary order, those without a group last.

    Attributes
    ----------
    runs : list of Path
        Parquet files, each in order.
    totals : mapping
        What the rows of each (group, split) come to.
    """

    runs: list[Path]
    totals: dict[tuple[str | None, str], Total]

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, a part at a time: `ROWS_SCHEMA`."""
        with ExitStack() as stack:
            files = [stack.enter_context(pq.ParquetFile(run)) for run in self.runs]
            if len(files) == 1:
                for batch in files[0].iter_batches(_ROWS_A_READ):
                    yield pa.Table.from_batches([batch])
                return
            rows = heapq.merge(*map(_rows, files), key=_place)
            while part := list(islice(rows, _ROWS_A_READ)):
                columns = map(list, zip(*part, strict=True))
                yield pa.table(list(columns), schema=ROWS_SCHEMA)


def _rows(file: pq.ParquetFile) -> Iterator[_Row]:
    for batch in file.iter_batches(_ROWS_A_MERGE):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _place(row: _Row) -> _Row:
    """What a row is sorted by; Python orders strings as UTF-8 does."""
    group, split, uri, offset = (row[column] for column in _ORDERED)
    return group is None, group or "", split, uri, offset


class _Table:
    """A Parquet file that rows are added to."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.writer = pq.ParquetWriter(path, schema, write_statistics=False)
        self._waiting: list[pa.Table] = []

    def add(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            # At once, since Python's objects take ten times the room.
            self._waiting.append(pa.Table.from_pylist(rows, self.writer.schema))
        if sum(map(len, self._waiting)) >= _ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        if self.writer.is_open:
            self._flush()
            self.writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self.writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []
