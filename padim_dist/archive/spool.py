"""The spool: rows on their way to a manifest, kept and sorted on disk.

Rows arrive in any order, page by page, and are written to temporary Parquet files;
DuckDB, held to little memory, joins what is known of them and sorts them. However
large an archive is, the memory of the process stays the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.archive.manifest import COST_OF_AN_IMAGE, MOST_BYTES, ROWS_SCHEMA, Total

_ROWS_A_WRITE = 10_000
_ROWS_A_GROUP = 20_480
_MEMORY = "128MB"
_THREADS = 2

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
_SORTED = """
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
ORDER BY "group" NULLS LAST, split NULLS LAST, images.uri, "offset"
"""
_TOTALS = f"""
SELECT "group", split, count(*), sum(least(length, {MOST_BYTES}) + {COST_OF_AN_IMAGE})::BIGINT
FROM sorted GROUP BY ALL
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
        with self._database() as database:
            count, first = database.sql(f"SELECT count(*), min(uri) FROM ({query})").fetchall()[0]
        return count, first

    def sort(self) -> SortedRows:
        """Join and sort what was taken in; after this nothing more is."""
        path = self.folder / "sorted.parquet"
        with self._database() as database:
            database.sql(_SORTED).write_parquet(str(path), row_group_size=_ROWS_A_GROUP)
            database.read_parquet(str(path)).create_view("sorted")
            rows = database.sql(_TOTALS).fetchall()
        totals = {(group, split): Total(images, cost) for group, split, images, cost in rows}
        left = sum(total.images for total in totals.values())
        if left < self.images:
            reason = "members of tar files replaced by a later one of the same name"
            self.ignored[reason] = self.images - left
        return SortedRows(path, totals)

    def _database(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the tables as views, held to little memory."""
        temporary = str(self.folder / "duckdb")
        database = duckdb.connect(
            config={"memory_limit": _MEMORY, "threads": _THREADS, "temp_directory": temporary}
        )
        for name, table in self._tables.items():
            table.close()
            database.read_parquet(str(table.path)).create_view(name)
        return database


@dataclass(frozen=True)
class SortedRows:
    """Rows by group, split, uri and offset: in binary order, those without a group last.

    Attributes
    ----------
    path : Path
        Parquet file with the rows.
    totals : mapping
        What the rows of each (group, split) come to.
    """

    path: Path
    totals: dict[tuple[str | None, str], Total]

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, a part at a time: `ROWS_SCHEMA`."""
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_ROWS_A_WRITE):
                yield pa.Table.from_batches([batch]).cast(ROWS_SCHEMA)


class _Table:
    """A Parquet file that rows are added to."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.writer = pq.ParquetWriter(path, schema, write_statistics=False)
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROWS_A_WRITE:
            self._flush()

    def close(self) -> None:
        if self.writer.is_open:
            self._flush()
            self.writer.close()

    def _flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self._rows, self.writer.schema))
        self._rows = []
