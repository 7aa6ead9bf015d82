"""Columns of a table of images: names are checked, and all values are text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

COLUMNS = ("uri", "group", "split", "label", "mask_uri")
Row = dict[str, str | None]
_MASKS = ("mask", "masks", "mask_url", "mask_path", "mask_file")
_SIMILAR = 0.85
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Table:
    """A Parquet or CSV table, whose name ends in ``.csv`` or is Parquet.

    Parameters
    ----------
    folder : Folder
        The file.

    Raises
    ------
    ArchiveError
        If it is not such a table, lacks the column ``uri``, or has a column twice or under a name
        that is nearly valid.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._ragged: csv.InvalidRow | None = None
        self._is_csv = folder.url.endswith(".csv")
        names = self._names()
        for name in names:
            if names.count(name) > 1 and name in COLUMNS:
                raise ArchiveError(f"{folder.url} has several columns {name!r}; keep one of them")
            meant = _meant(name)
            if meant and meant not in names:
                raise ArchiveError(
                    f"{folder.url} has a column {name!r}; is it {meant!r}? Rename it, so that it "
                    f"is read, or remove it. Valid columns: {', '.join(COLUMNS)}"
                )
        if "uri" not in names:
            first = names[0] if names else ""
            hint = next(
                (f"; separate columns by commas, not {s!r}" for s in ";\t" if s in first), ""
            )
            raise ArchiveError(
                f"{folder.url} needs a column 'uri' (found: columns {', '.join(names)}{hint}). "
                f"Valid columns: {', '.join(COLUMNS)}"
            )
        self.columns = [name for name in COLUMNS if name in names]

    def rows(self) -> Iterator[list[Row]]:
        """Yield the rows in parts, with `columns`; an empty text is None.

        Raises
        ------
        ArchiveError
            If the table cannot be read.
        """
        with self._opened() as file:
            yield from self._csv_rows(file) if self._is_csv else self._parquet_rows(file)

    def _names(self) -> list[str]:
        with self._opened() as file:
            if not self._is_csv:
                return list(pq.read_schema(file).names)
            if file.read(2) in _UTF16:
                raise ArchiveError(f"{self._folder.url} is UTF-16; save it as CSV in UTF-8")
            file.seek(0)
            with csv.open_csv(file, parse_options=self._parsing("skip")) as reader:
                return list(reader.schema.names)

    def _csv_rows(self, file: Any) -> Iterator[list[Row]]:
        text = csv.ConvertOptions(
            column_types=dict.fromkeys(self.columns, pa.string()),
            include_columns=self.columns,
            # Arrow's own list has NA, null and nan, which may be names of groups.
            null_values=[""],
            strings_can_be_null=True,
        )
        one = csv.ReadOptions(use_threads=False)  # several threads do not know numbers of rows
        with csv.open_csv(
            file, read_options=one, parse_options=self._parsing("error"), convert_options=text
        ) as reader:
            for batch in reader:
                yield batch.to_pylist()

    def _parsing(self, wrong_rows: str) -> csv.ParseOptions:
        def judge(row: csv.InvalidRow) -> str:
            if wrong_rows == "error":
                self._ragged = row
            return wrong_rows

        return csv.ParseOptions(newlines_in_values=True, invalid_row_handler=judge)

    def _parquet_rows(self, file: Any) -> Iterator[list[Row]]:
        with pq.ParquetFile(file) as parquet:
            for name in self.columns:
                kind = parquet.schema_arrow.field(name).type
                if pa.types.is_nested(kind):
                    raise ArchiveError(
                        f"{self._folder.url} has values of type {kind} in column {name!r}; make "
                        "them text"
                    )
            strings = pa.schema([(name, pa.string()) for name in self.columns])
            for batch in parquet.iter_batches(4096, columns=self.columns):
                table = pa.Table.from_batches([batch]).select(self.columns).cast(strings)
                yield [{k: v or None for k, v in row.items()} for row in table.to_pylist()]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file; errors of the store and of its format become an `ArchiveError`."""
        url, fs = self._folder.url, self._folder.fs
        if self._folder.is_local and fs.exists(url) and not fs.isfile(url):
            raise ArchiveError(f"archive.url {url} is not a file; give a .csv or .parquet file")
        try:
            with fs.open(url, "rb") as file:
                yield file
        except MemoryError:  # Arrow's is an ArrowException too
            raise
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            if self._ragged_row:
                reason = self._ragged_row
            elif "UTF8" in reason or isinstance(error, UnicodeDecodeError):
                reason = "its text is not UTF-8; save it as CSV in UTF-8"
            raise ArchiveError(
                f"archive.url {url} cannot be read as a Parquet or CSV table: {reason}"
            ) from error

    @property
    def _ragged_row(self) -> str | None:
        row = self._ragged
        if row is None:
            return None
        at = "a line" if row.number is None else f"line {row.number}"
        return (
            f"{at} has {row.actual_columns} values for {row.expected_columns} columns; put values "
            "that contain commas in quotes"
        )


def _meant(name: str) -> str | None:
    """Return the valid column that a name nearly is; None for other names, also valid ones.

    Examples
    --------
    >>> _meant(" Split"), _meant("groups"), _meant("mask"), _meant("camera"), _meant("uri")
    ('split', 'group', 'mask_uri', None, None)
    """
    if name in COLUMNS:
        return None
    plain = name.strip(" \t\r\n\"'\ufeff").casefold()
    if plain in _MASKS:
        return "mask_uri"
    return next(iter(difflib.get_close_matches(plain, COLUMNS, 1, _SIMILAR)), None)
