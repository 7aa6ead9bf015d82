"""The spool: collects the rows of a listing, joins them with their notes and masks, sorts them.

Batches arrive in any order and are written to temporary Parquet files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.archive.listing.workbench import ROWS_A_GROUP, SortedRows, Workbench
from padim_dist.archive.rows import ImageRow, schema_of

# Of members of one tar file with the same name the last one counts, as in tar. A mask's path that
# several objects have gives no mask: a wrong mask would be worse than none.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage(ImageRow):
    """An image of a listing: a row without its mask and notes.

    Attributes
    ----------
    key : str or None
        Key of the notes that belong to the image.
    masks : tuple of str
        Paths where its mask may be, the best first; not used if `mask_uri` is set.
    """

    member: str | None = None
    offset: int = 0
    key: str | None = None
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundMask:
    """An image that may be a mask.

    Attributes
    ----------
    path, uri : str
        Path that `FoundImage.masks` refers to, and address to read it from.
    object : str
        The file that contains it, at `offset`.
    """

    path: str
    uri: str
    object: str
    offset: int


@dataclass(frozen=True, slots=True)
class Note:
    """Group, split and label of the images with a key, where not None; the highest rank counts."""

    key: str
    rank: int
    group: str | None = None
    split: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Batch:
    """A page of an archive: its images, possible masks, notes, and counts of ignored files."""

    images: list[FoundImage] = field(default_factory=list)
    masks: list[FoundMask] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


class Spool(Workbench):
    """Collects batches and returns sorted rows; leaving the ``with`` deletes its folder.

    Attributes
    ----------
    images : int
        Number of rows added.
    ignored : Counter
        Number of ignored files so far, by suffix or reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images = 0
        self.ignored: Counter[str] = Counter()
        self._joined: Path | None = None
        schemas = {
            "images": schema_of(FoundImage).append(pa.field("row", pa.int64())),
            "masks": schema_of(FoundMask),
            "notes": schema_of(Note),
        }
        self._tables: dict[str, _Table] = {}
        for name, schema in schemas.items():
            self._tables[name] = _Table(self.folder / f"{name}.parquet", schema)
            self.callback(self._tables[name].writer.close)

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        numbers = range(self.images, self.images + len(batch.images))
        self.images += len(batch.images)
        self._tables["images"].add(batch.images, row=numbers)
        self._tables["masks"].add(batch.masks)
        self._tables["notes"].add(batch.notes)
        self.ignored.update(batch.ignored)

    def add_known(self, rows: pa.Table) -> None:
        """Add rows that have their labels and masks, with `ROWS_SCHEMA`."""
        schema = self._tables["images"].schema
        numbers = pa.array(range(self.images, self.images + len(rows)))
        self.images += len(rows)
        known = {name: rows[name] for name in rows.column_names}
        more = {"key": pa.nulls(len(rows)), "masks": pa.array([[]] * len(rows)), "row": numbers}
        columns = known | more
        self._tables["images"].append(
            pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema)
        )

    def repeated_uris(self) -> tuple[int, str | None]:
        """Return the number of uris that occur more than once, and the first of them."""
        query = "SELECT uri FROM images GROUP BY uri HAVING count(*) > 1"
        query = f"SELECT count(*), min(uri) FROM ({query})"
        count, first = self.ask(self._files(), lambda database: database.sql(query).fetchall()[0])
        return count, first

    def joined(self) -> Path:
        """Return a Parquet file of all rows with their notes and masks; no batch may follow."""
        if self._joined is None:
            self._joined = self.select("joined", self._files(), _JOINED)
            left = pq.read_metadata(self._joined).num_rows
            if left < self.images:
                reason = "members of tar files replaced by a later one of the same name"
                self.ignored[reason] = self.images - left
        return self._joined

    def sorted(self) -> SortedRows:
        """Return all rows in order."""
        return self.sort(self.joined())

    def _files(self) -> dict[str, Path]:
        for table in self._tables.values():
            table.close()
        return {name: table.path for name, table in self._tables.items()}


class _Table:
    """A Parquet file that rows are added to."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.writer = pq.ParquetWriter(path, schema, write_statistics=False)
        self._waiting: list[pa.Table] = []

    def add(self, rows: Sequence[object], **columns: Iterable[int]) -> None:
        """Add rows, whose attributes become columns, and further columns."""
        if rows:
            # Converted at once: Python objects take ten times the memory.
            data = [
                columns[name] if name in columns else [getattr(row, name) for row in rows]
                for name in self.schema.names
            ]
            self.append(pa.table(data, schema=self.schema))

    def append(self, rows: pa.Table) -> None:
        """Add rows with all columns."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self.writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []
