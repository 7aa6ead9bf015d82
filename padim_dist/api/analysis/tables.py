"""The tables of runs as DuckDB sees them: where they lie, with the columns of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa

from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.run import list_runs
from padim_dist.store.run_tables import REGIONS, SCHEMAS, SCORES, table_files
from padim_dist.store.workspace import Workspace

Head = Mapping[str, Any]
"""A run's ``run.json``."""
MOST_ANOMALOUS = "p_value NULLS LAST, score DESC, uri, member"
"""Order of score rows, the most anomalous first; scores of different groups are not comparable."""
_THREADS = 16
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # What is there is all that is needed; a query never waits for a download.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def open_connection(folder: Folder) -> duckdb.DuckDBPyConnection:
    """A database in memory that reads files of a folder's storage; times are UTC."""
    connection = duckdb.connect(config=_SETTINGS)
    connection.execute("SET TimeZone = 'UTC'")
    if not folder.is_local:
        # By the file system of this process: no credentials in SQL.
        connection.register_filesystem(folder.fs)
    return connection


def table_query(
    connection: duckdb.DuckDBPyConnection, table: str, runs: Sequence[tuple[Workspace, Head]]
) -> str:
    """SQL of a table, ``"scores"`` or ``"regions"``, over all files that runs have of it.

    Columns that a run's version did not have yet are null. With rule fdr an image is
    flagged, and a region one, by the run's cutoff: unknown (null, none) until it is finished.
    """
    schema = SCHEMAS[table]
    files = find_files(table, runs)
    if not files:
        return f"SELECT * FROM ({_empty(schema)})"
    source = files_query(files)
    there = connection.sql(f"SELECT * FROM {source}").columns
    columns = [
        _quoted(field.name) if field.name in there else f"{_null(field)} AS {_quoted(field.name)}"
        for field in schema
    ]
    columns += [_quoted(name) for name in there if name not in schema.names]
    verdict = _verdict([head for _, head in runs]) if "p_value" in there else None
    if verdict and table == SCORES:
        flagged = f'CASE run_id {verdict} ELSE flagged END AS "flagged"'
        columns = [flagged if column == '"flagged"' else column for column in columns]
    query = f"SELECT {', '.join(columns)} FROM {source}"
    if verdict and table == REGIONS:
        query += f" WHERE CASE run_id {verdict} ELSE true END"
    return query


def find_files(table: str, runs: Sequence[tuple[Workspace, Head]]) -> list[str]:
    """URLs of all files that runs have of a table."""

    def find(run: tuple[Workspace, Head]) -> list[str]:
        workspace, head = run
        return [workspace.folder.at(p) for p in table_files(workspace, head["run_id"], table)]

    with ThreadPoolExecutor(_THREADS) as pool:
        return [file for files in pool.map(find, runs) for file in files]


def files_query(files: Iterable[str]) -> str:
    """The table function that reads Parquet files as one table."""
    return f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true)"


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def choose_run(workspace: Workspace, asked: str | None) -> dict[str, Any]:
    """``run.json`` of the run whose id begins like this; None: of the newest one.

    Raises
    ------
    RequestError
        If there is none, or several.
    """
    runs = list_runs(workspace)
    if not runs:
        raise RequestError(f"workspace {workspace.folder.url} holds no run; run 'score' first")
    if asked is None:
        return runs[-1]
    found = [run for run in runs if run["run_id"].startswith(asked)]
    if len(found) != 1:
        there = ", ".join(run["run_id"] for run in (found or runs)[-8:])
        raise RequestError(
            f"workspace {workspace.folder.url} has {len(found)} runs whose id begins with "
            f"{asked!r} ({'such as ' if not found else ''}{there}); give the id of one"
        )
    return found[0]


def progress_of(head: Head) -> str | None:
    """That a run is half done, for people; None if it is finished."""
    if "finished_at" in head:
        return None
    return f"run {head['run_id']} is half done: what is not scored yet is missing"


def _verdict(heads: Sequence[Head]) -> str:
    """Branches of a CASE for runs with rule fdr: their cutoff is known once they are finished."""
    cases = []
    for head in heads:
        alarms = head.get("alarms") or {}
        if alarms.get("rule") != "fdr":
            continue
        cutoff = head.get("cutoff")
        flagged = "NULL"
        if cutoff is not None:
            flagged = f"p_value <= {cutoff!r}::DOUBLE"
        elif "finished_at" in head:
            flagged = "p_value < 0"  # nothing is flagged; null stays null
        cases.append(f"WHEN {literal(head['run_id'])} THEN {flagged}")
    return " ".join(cases)


def _empty(schema: pa.Schema) -> str:
    columns = ", ".join(f"{_null(field)} AS {_quoted(field.name)}" for field in schema)
    return f"SELECT {columns} WHERE false"


def _null(field: pa.Field) -> str:
    return f"NULL::{_TYPES[field.type]}"


def _quoted(name: str) -> str:
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
