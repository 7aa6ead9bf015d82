"""Layout ``table``: a Parquet or CSV file with a row per image."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.spool import Batch, FoundImage, Spool
from padim_dist.archive.listing.walk import THREADS
from padim_dist.archive.rows import image_id
from padim_dist.bodies import object_tag
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

COLUMNS = ("uri", "group", "split", "label", "mask_uri")
_CSV = csv.ParseOptions(newlines_in_values=True)


def list_images(listing: Listing, spool: Spool) -> None:
    """List the images of a ``.parquet`` or ``.csv`` table.

    Column ``uri`` is required; ``group``, ``split``, ``label`` and ``mask_uri`` are optional. URIs
    without a protocol are relative to the table's folder. Without a column ``split`` or ``group``,
    the regular expressions are searched in the uri as written in the table.

    Raises
    ------
    ArchiveError
        If there is no such table, or it has no column ``uri``, no rows, a wrong value of
        ``split``, or a repeated uri.
    """
    table = listing.archive
    home = Folder(table.url.rpartition("/")[0] or "/", table.options)
    columns = _columns(table)
    count = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for rows in _read(table, columns):
            if "uri" in columns:
                _check(table, rows, "split" in columns, count)
                spool.add(Batch([*pool.map(lambda row: _image(row, home, listing), rows)]))
            count += len(rows)
            listing.tell(count)
    if not spool.images:
        raise ArchiveError(
            f"{table.url} needs a column 'uri' and at least one row (found: columns "
            f"{', '.join(columns)}; rows: {count}). Valid columns: {', '.join(COLUMNS)}"
        )
    twice, example = spool.repeated_uris()
    if twice:
        raise ArchiveError(
            f"{table.url} repeats uris ({twice}), e.g. {example!r}; keep one row each"
        )


def _check(table: Folder, rows: list[dict[str, Any]], has_split: bool, before: int) -> None:
    """Refuse rows without a uri, and wrong values of ``split``."""
    for number, row in enumerate(rows, before + 1):
        if row["uri"] is None:
            raise ArchiveError(f"{table.url} has no uri in row {number}; add it or remove the row")
        if has_split and row["split"] not in ("train", "test"):
            raise ArchiveError(
                f"{table.url} has {row['split'] or 'nothing'!r} in column 'split' of row {number}; "
                "valid are 'train' and 'test'"
            )


def _image(row: dict[str, Any], home: Folder, listing: Listing) -> FoundImage:
    mask, written = row.get("mask_uri"), row["uri"]
    uri = _absolute(written, home)
    info = _info(uri, home)
    size = int(info["size"] or 0) if info else 0
    return FoundImage(
        image_id=image_id(written),
        uri=uri,
        length=size,
        size=size,
        etag=object_tag(info) if info else None,
        group=(row["group"] if "group" in row else listing.find_group(written)) or None,
        split=row["split"] if "split" in row else listing.find_split(written),
        label=row.get("label"),
        mask_uri=_absolute(mask, home) if mask else None,
    )


def _columns(table: Folder) -> list[str]:
    """Return the names of the table's columns."""
    with _opened(table) as file:
        if table.url.endswith(".csv"):
            with csv.open_csv(file, parse_options=_CSV) as reader:
                return list(reader.schema.names)
        return list(pq.read_schema(file).names)


def _read(table: Folder, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield parts of the table: its valid columns, or all columns if none is valid."""
    known = [column for column in COLUMNS if column in columns] or columns
    with _opened(table) as file:
        if table.url.endswith(".csv"):
            text = csv.ConvertOptions(
                column_types=dict.fromkeys(known, pa.string()),
                include_columns=known,
                strings_can_be_null=True,
            )
            with csv.open_csv(file, parse_options=_CSV, convert_options=text) as reader:
                for batch in reader:
                    yield batch.to_pylist()
        else:
            strings = pa.schema([(column, pa.string()) for column in known])
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(4096, columns=known):
                    yield pa.Table.from_batches([batch]).select(known).cast(strings).to_pylist()


@contextmanager
def _opened(table: Folder) -> Iterator[Any]:
    """Open the table; errors of the store and of its format become an `ArchiveError`."""
    try:
        with table.fs.open(table.url, "rb") as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ArchiveError(
            f"archive.url {table.url} cannot be read as a Parquet or CSV table: {reason}"
        ) from error


def _absolute(uri: str, home: Folder) -> str:
    return uri if "://" in uri or uri.startswith("/") else home.at(uri)


def _info(uri: str, home: Folder) -> dict[str, Any] | None:
    """Return the store's information on an object; None if it is missing or forbidden."""
    folder, _, name = uri.rpartition("/")
    try:
        parent = Folder(folder or "/", home.options)
        info: dict[str, Any] = parent.fs.info(parent.at(name))
    except (FileNotFoundError, PermissionError):
        return None
    except (ValueError, ImportError) as error:
        raise ArchiveError(f"uri {uri!r} of the table cannot be looked up: {error}") from error
    return info
