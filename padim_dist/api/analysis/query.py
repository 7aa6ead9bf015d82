"""Query: read-only SQL over a workspace."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pyarrow.parquet as pq

from padim_dist.api.settings.lookup import progress_note
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.api.settings.rules import Alpha
from padim_dist.api.sql.sandbox import close, readable
from padim_dist.api.sql.views import VIEWS, open_views
from padim_dist.errors import RequestError
from padim_dist.escaping import csv_cell, visible
from padim_dist.events import Listener, ignore

FORMATS = ("table", "csv", "json", "parquet")
SHOWN = 100
"""Largest number of rows in a table for the screen."""
_BATCH = 20_000


@dataclass(frozen=True)
class QueryResult:
    """Result of a query.

    Attributes
    ----------
    rows, more : list of list, bool
        The first 100 rows for the format ``"table"``, otherwise empty; whether there are more.
    written, file : int or None, str or None
        Rows written to a file or to stdout, None for a table; the file.
    columns, notes : list of str
        Names of the columns, and remarks on the result.
    """

    columns: list[str]
    rows: list[list[Any]]
    more: bool = False
    written: int | None = None
    file: str | None = None
    notes: list[str] = field(default_factory=list)


def query(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    sql: str,
    format: str = "table",
    out: str | None = None,
    run: str | None = None,
    alpha: Alpha | None = None,
) -> QueryResult:
    """Run a read-only SQL query; see `padim_dist.connect` for the views.

    The query reads the views and the files of the workspace, nothing else.

    Parameters
    ----------
    config : Config or path
        The configuration.
    sql : str
        One read-only statement.
    format : str
        ``"table"``: the first 100 rows; ``"csv"``, ``"json"`` (an array, one object per line) or
        ``"parquet"``: all rows.
    out : str, optional
        Path of a file, which is written completely or not at all; by default stdout.
    run : str, optional
        Id of a run, or a unique prefix, also of one that is half done; by default all finished
        runs.

    alpha : float or "auto", optional
        Flags of this alpha, instead of those of the rules of the runs.

    Raises
    ------
    RequestError
        If `sql` is not one valid read-only statement, or format and file do not go together.

    Examples
    --------
    >>> query(config, sql="SELECT count(*) FROM latest").rows       # doctest: +SKIP
    [[39]]
    """
    if format not in FORMATS:
        raise RequestError(f"format {format!r} is none of {', '.join(FORMATS)}")
    if format == "parquet" and out is None:
        raise RequestError("format 'parquet' needs a file: give --out FILE")
    if format == "table" and out is not None:
        raise RequestError("a table is for the screen; for a file give --format csv")
    sql = readable(sql)
    config = as_config(config)
    connection, shown = open_views(config, None, run, alpha)
    close(connection, workspace_of(config))
    notes = [note for head in shown for note in progress_note(head)]
    try:
        if format == "parquet":
            assert out is not None
            columns, written = _to_parquet(connection.sql(sql), out)
            return QueryResult(columns, [], written=written, file=out, notes=notes)
        found = connection.execute(sql)  # streams: rows are made as they are fetched
        columns = [name for name, *_ in found.description or ()]
        if format == "table":
            rows = [[plain(item) for item in row] for row in found.fetchmany(SHOWN + 1)]
            return QueryResult(columns, rows[:SHOWN], more=len(rows) > SHOWN, notes=notes)
        written = 0  # if the reader of stdout closes it early
        with _opened(out) as file:
            written = _WRITERS[format](found, columns, file)
        return QueryResult(columns, [], written=written, file=out, notes=notes)
    except duckdb.Error as error:
        raise RequestError(_explain(error, connection)) from None


def _explain(error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> str:
    """Return DuckDB's message, with all views and columns if a name is unknown."""
    message = f"DuckDB: {error}"
    if not isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
        return message
    columns = {view: ", ".join(connection.sql(f"FROM {view}").columns) for view in VIEWS}
    there = "\n".join(f"  {view}: {names}" for view, names in columns.items())
    return f"{message}\nThere are these views and columns:\n{there}"


def batches(found: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of a result in batches."""
    while rows := found.fetchmany(_BATCH):
        yield rows


def write_csv(found: duckdb.DuckDBPyConnection, columns: Sequence[str], file: TextIO) -> int:
    """Write a result as CSV (`csv_cell`) with a header; return the number of rows."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(csv_cell, columns))
    written = 0
    cell = _shown_cell if file.isatty() else csv_cell
    for rows in batches(found):
        writer.writerows(map(cell, row) for row in rows)
        written += len(rows)
    return written


def _shown_cell(value: object) -> object:
    """Return a cell for a terminal."""
    cell = csv_cell(value)
    return visible(cell) if isinstance(cell, str) else cell


def write_json(found: duckdb.DuckDBPyConnection, columns: Sequence[str], file: TextIO) -> int:
    """Write a result as a JSON array, an object per line; return the number of rows."""
    written = 0
    for rows in batches(found):
        for row in rows:
            value = dict(zip(columns, map(plain, row), strict=True))
            file.write(",\n" if written else "[\n")
            file.write(json.dumps(value))
            written += 1
    file.write("\n]\n" if written else "[]\n")
    return written


def _to_parquet(found: duckdb.DuckDBPyRelation, out: str) -> tuple[list[str], int]:
    reader: Any = found.to_arrow_reader(_BATCH)
    written = 0
    with draft(out) as path, pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            written += batch.num_rows
    return reader.schema.names, written


_WRITERS = {"csv": write_csv, "json": write_json}


def plain(value: Any) -> Any:
    """Return a DuckDB value for JSON: NaN and infinity as None, times as ISO 8601."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value.isoformat() if isinstance(value, (datetime, date)) else str(value)


@contextmanager
def draft(out: str) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `out` if the block succeeds."""
    target = Path(out).expanduser()
    if not target.parent.is_dir():
        raise RequestError(f"folder {target.parent} for the file {target.name} does not exist")
    path = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
    """Open a file through `draft`, or stdout, whose reader may close it early."""
    if out is not None:
        with draft(out) as path, path.open("w", newline="", encoding="utf-8") as file:
            yield file
        return
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
