"""The sandbox of ``query``: one statement that only reads, and only files of the workspace.

DuckDB's own parse is judged, not text. Three things can leave a database: a statement other than
SELECT; a part of a SELECT that writes (``WITH x AS (COPY ...)``); a table function that runs SQL in
a string or changes settings. So the lists say what is allowed; all else is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from padim_dist.api.sql.flags import literal
from padim_dist.api.sql.tables import SETTINGS
from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.workspace import Workspace

_EXPLAIN = re.compile(
    r"explain\b\s*(analyze\b)?\s*(\(\s*(?:analyze|format)\b[\w\s,]*\))?", re.IGNORECASE
)
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_FILES = (
    *("read_parquet", "parquet_scan", "parquet_schema", "parquet_metadata"),
    *("parquet_file_metadata", "parquet_kv_metadata", "read_csv", "read_csv_auto", "sniff_csv"),
    *("read_json", "read_json_auto", "read_json_objects", "read_ndjson", "read_ndjson_auto"),
    *("read_ndjson_objects", "read_text", "read_blob", "glob"),
)
"""Table functions that read files; the connection decides which ones."""
_FUNCTIONS = {
    *_FILES,
    *("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"),
    *("summary", "histogram", "histogram_values", "query_table", "test_all_types"),
    *("duckdb_columns", "duckdb_tables", "duckdb_views", "duckdb_functions", "duckdb_types"),
    *("duckdb_keywords", "pragma_table_info", "pragma_show", "pragma_version"),
}
_REFUSED = "a query is read-only: {} is refused. Use SELECT, FROM, WITH, DESCRIBE, SUMMARIZE or "
_REFUSED += "EXPLAIN; to write the result to a file give --format and --out"


def readable(sql: str) -> str:
    """Return the statement to run for a query.

    Raises
    ------
    RequestError
        If it is several statements, none, or one that does more than read.
    """
    statement = _only(sql)
    if statement.type.name == "EXPLAIN":
        # EXPLAIN ANALYZE runs the statement. What was judged is run, behind a prefix of ours.
        text = statement.query.strip()
        prefix = _EXPLAIN.match(text)
        inner = text[prefix.end() :] if prefix else text
        _judge(inner)
        words = " ".join(filter(None, prefix.groups())) if prefix else ""
        return f"EXPLAIN {words} {inner}"
    _judge(sql)
    return sql


def close(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Confine a connection to the files of a workspace; it cannot be opened again."""
    folder = workspace.folder
    if folder.is_local:
        # DuckDB follows links before it decides. The folders of the views may be links.
        folders = (folder.url, workspace.at(workspace.runs), workspace.at("manifests"))
        allowed = {os.path.join(os.path.realpath(place), "") for place in folders}
    else:
        confined = _Confined(folder)
        for protocol in confined.protocols:
            connection.unregister_filesystem(protocol)
        connection.register_filesystem(confined)
        allowed = {f"{protocol}://" for protocol in confined.protocols}
    for setting in (
        f"allowed_directories = [{', '.join(map(literal, sorted(allowed)))}]",
        "python_enable_replacements = false",  # variables of this program
        "http_proxy = ''",  # from the environment, with a password
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


class _Confined(AbstractFileSystem):  # type: ignore[misc]
    """Reads files in a folder of any file system; refuses all else.

    DuckDB compares names only, and some stores follow ``..``.
    """

    cachable = False

    def __init__(self, folder: Folder) -> None:
        super().__init__()
        self._fs = folder.fs
        self._root = self._fs._strip_protocol(folder.url).rstrip("/")
        given = self._fs.protocol
        self.protocols: tuple[str, ...] = (given,) if isinstance(given, str) else tuple(given)
        self.protocol = given

    def _inside(self, path: str) -> str:
        found: str = self._fs._strip_protocol(path)
        if ".." in found.split("/") or not f"{found}/".startswith(f"{self._root}/"):
            raise PermissionError(f"{path} is not in the workspace")
        return found

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file for reading."""
        if mode not in ("r", "rb"):
            raise PermissionError(f"{path} is not written: a query only reads")
        return self._fs.open(self._inside(path), "rb")

    def info(self, path: str, **more: Any) -> Any:
        """Return size and kind of a file."""
        return self._fs.info(self._inside(path), **more)

    def modified(self, path: str) -> Any:
        """Return the time of the last change."""
        return self._fs.modified(self._inside(path))

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        """List a folder."""
        return self._fs.ls(self._inside(path), detail=detail, **more)

    def glob(self, path: str, **more: Any) -> Any:
        """Return the files that match a pattern."""
        return self._fs.glob(self._inside(path), **more)


def _only(sql: str) -> duckdb.Statement:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise RequestError(f"DuckDB: {error}") from None
    if len(statements) != 1:
        raise RequestError(f"one statement at a time: found {len(statements)}")
    return statements[0]


def _judge(sql: str) -> None:
    """Refuse a statement that is not a SELECT, or that has a part that does more than read."""
    kind = _only(sql).type.name
    if kind != "SELECT":
        raise RequestError(_REFUSED.format(kind))
    with duckdb.connect(config=SETTINGS) as parser:
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise RequestError(
            f"DuckDB: {tree.get('error_message', 'the statement is not understood')}"
        )
    for part in _parts(tree):
        kind = str(part.get("type"))
        if kind.endswith("_NODE") and kind not in _NODES:
            raise RequestError(_REFUSED.format(kind.split("_")[0]))
        if kind == "TABLE_FUNCTION":
            name = part["function"]["function_name"]
            if name.lower() not in _FUNCTIONS:
                raise RequestError(
                    f"a query cannot use the table function {name}; it can use "
                    f"{', '.join(sorted(_FUNCTIONS))}"
                )


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a JSON value."""
    left = [tree]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left += value.values()
        elif isinstance(value, list):
            left += value
