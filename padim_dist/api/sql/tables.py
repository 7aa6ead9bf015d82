"""SQL over the files of runs, padded to the current schema."""

from __future__ import annotations

import atexit
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache
from itertools import chain
from tempfile import TemporaryDirectory
from typing import TypeVar

import duckdb
import pyarrow as pa

from padim_dist.api.sql.flags import cutoff_sql, flagged_sql, literal
from padim_dist.api.sql.reviews import add_reviews_table, with_verdicts
from padim_dist.errors import RequestError
from padim_dist.redaction import redacted
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import READ_SCHEMAS, REGIONS, SCORES, RegionRow, ScoreRow
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import RunTable
from padim_dist.store.workspace import Workspace

_THREADS = 16
_TOGETHER = 1000
"""Files that are read by one of `queries`."""
Row = TypeVar("Row", ScoreRow, RegionRow)
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # A query never waits for the download of an extension.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def open_connection(workspace: Workspace) -> duckdb.DuckDBPyConnection:
    """Open a database in memory that reads files of a workspace; times are UTC."""
    connection = duckdb.connect(config=SETTINGS)
    connection.execute("SET TimeZone = 'UTC'")
    # For results that do not fit in memory; DuckDB's default is a folder in the working folder.
    connection.execute(f"SET temp_directory = {literal(f'{_scratch().name}/{uuid.uuid4().hex}')}")
    if not workspace.folder.is_local:
        # Through the file system of this process: no credentials in SQL.
        connection.register_filesystem(workspace.folder.fs)
    return connection


@cache
def _scratch() -> TemporaryDirectory[str]:
    """Temporary folder of this process, which other users cannot read."""
    folder = TemporaryDirectory(prefix="padim-dist-query-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return folder


def table_query(
    connection: duckdb.DuckDBPyConnection, table: str, runs: Sequence[tuple[Run, RunHead]]
) -> str:
    """Return the SQL of a table, ``"scores"`` or ``"regions"``, over all its files in runs.

    Columns that older files lack are null. The rule of a run says which of its images are flagged;
    they are null while that is not known. Only regions of flagged images are shown.
    """
    scores = _columns_query(connection, SCORES, runs)
    if table == SCORES:
        return scores
    regions = _columns_query(connection, REGIONS, runs)
    flagged = (
        f"SELECT run_id, image_id, {cutoff_sql(head for _, head in runs)} AS cutoff "
        f"FROM ({scores}) WHERE flagged"
    )
    # A shard that is scored again may have regions that were added to the run before.
    regions = f"SELECT DISTINCT ON (run_id, image_id, region) * FROM ({regions})"
    return (
        f"SELECT regions.* FROM ({regions}) AS regions JOIN ({flagged}) AS flagged "
        "USING (run_id, image_id) "
        # The first region has the peak of the image.
        "WHERE region = 1 OR cutoff IS NULL OR regions.p_value <= cutoff"
    )


def _columns_query(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    runs: Sequence[tuple[Run, RunHead]],
) -> str:
    """Return the SQL that reads the files of a table, with all columns of this version."""
    tables = [_table(run, table) for run, _ in runs]
    with ThreadPoolExecutor(_THREADS) as pool:
        paths = chain.from_iterable(pool.map(RunTable.files, tables))
    return _query(connection, table, runs, [runs[0][0].workspace.at(path) for path in paths])


def queries(
    connection: duckdb.DuckDBPyConnection, table: str, run: Run, head: RunHead
) -> Iterator[str]:
    """Yield the SQL that reads all rows of a table of a run, some of its files in each.

    Columns are those of `table_query`. A query holds the footers of all its files, 70 kB each; a
    run may have tens of thousands.
    """
    files = [run.workspace.at(path) for path in _table(run, table).files()]
    for first in range(0, max(len(files), 1), _TOGETHER):
        yield _query(connection, table, [(run, head)], files[first : first + _TOGETHER])


def _table(run: Run, table: str) -> RunTable:
    return run.scores if table == SCORES else run.regions


def _query(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    runs: Sequence[tuple[Run, RunHead]],
    files: Sequence[str],
) -> str:
    schema = READ_SCHEMAS[table]
    if not files:
        nulls = ", ".join(f"{_null(field)} AS {quoted(field.name)}" for field in schema)
        return f"SELECT * FROM (SELECT {nulls} WHERE false)"
    source = files_query(files)
    try:
        there = connection.sql(f"SELECT * FROM {source}").columns
    except duckdb.Error:
        for run, _ in runs:
            for damage in _table(run, table).find_damaged():
                raise damage from None
        raise
    lacking = [field for field in schema if field.name not in there]
    nulls = ", ".join(f"{_null(field)} AS {quoted(field.name)}" for field in lacking)
    source = f"(SELECT *, {nulls} FROM {source})" if lacking else source
    names = [*schema.names, *(name for name in there if name not in schema.names)]
    stored = "flagged" if "flagged" in there else "NULL"
    flagged = f"({flagged_sql((head for _, head in runs), stored)})::BOOLEAN AS flagged"
    columns = [flagged if name == "flagged" else quoted(name) for name in names]
    return f"SELECT {', '.join(columns)} FROM {source}"


def files_query(files: Iterable[str]) -> str:
    """Return the SQL that reads Parquet files as one table."""
    return f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true)"


def open_table(table: str, runs: Sequence[tuple[Run, RunHead]]) -> duckdb.DuckDBPyRelation:
    """Open a table of runs of one workspace as a DuckDB relation; scores with their verdicts.

    Raises
    ------
    RequestError
        If no shard of a run is finished.
    """
    for run, _ in runs:
        if not run.scores.files():
            raise RequestError(
                f"run {run.url} has no finished shard yet; run 'padim-dist score' again: it resumes"
            )
    connection = open_connection(runs[0][0].workspace)
    query = table_query(connection, table, runs)
    if table == SCORES:
        query = with_verdicts(query, add_reviews_table(connection, runs[0][0].workspace) > 0)
    return connection.sql(query)


def read_rows(kind: type[Row], found: duckdb.DuckDBPyRelation) -> list[Row]:
    """Read the rows of a relation with the columns of the score table, or of the regions."""
    names = [field.name for field in fields(kind)]
    columns = found.project(", ".join(map(quoted, names)))
    return [kind(**dict(zip(names, row, strict=True))) for row in columns.fetchall()]


def image_name(archive: str, uri: str, member: str | None) -> str:
    """Return the path of an image in its archive (a URL), and its name in the tar file."""
    name = uri.removeprefix(f"{redacted(archive)}/")
    return f"{name} {member}" if member else name


def _null(field: pa.Field) -> str:
    return f"NULL::{_TYPES[field.type]}"


def quoted(name: str) -> str:
    """Return a name in SQL."""
    return '"' + name.replace('"', '""') + '"'


_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}
