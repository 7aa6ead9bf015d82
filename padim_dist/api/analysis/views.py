"""A workspace as a database: its tables as views, read where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from padim_dist.api.analysis.tables import Head, files_query, open_connection, table_query
from padim_dist.api.nights.promotions import model_states
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.archive.listing.cut import MANIFEST_SCHEMA
from padim_dist.config import Config
from padim_dist.store.history import last_entry
from padim_dist.store.models import list_models
from padim_dist.store.promotions import read_promotions
from padim_dist.store.run import list_runs
from padim_dist.store.run_tables import REGIONS, SCORES
from padim_dist.store.workspace import Workspace

VIEWS = ("scores", "regions", "runs", "models", "images")
_TIME = pa.timestamp("us", tz="UTC")
_STATUSES = ("scored", "unreadable", "missing", "changed", "too_large")
RUNS_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("model_id", pa.string()),
        ("snapshot", pa.string()),
        ("started_at", pa.string()),
        ("asked_at", pa.string()),
        ("finished_at", pa.string()),
        ("images", pa.int64()),
        *((status, pa.int64()) for status in _STATUSES),
        ("flagged", pa.int64()),
        ("rule", pa.string()),
        ("alpha", pa.float64()),
        ("cutoff", pa.float64()),
        ("drift_z", pa.float64()),
    ]
)
MODELS_SCHEMA = pa.schema(
    [
        ("model_id", pa.string()),
        ("state", pa.string()),
        ("created_at", pa.string()),
        ("backbone", pa.string()),
        ("channels", pa.int64()),
        ("groups", pa.int64()),
        ("images", pa.int64()),
        ("epsilon", pa.float64()),
    ]
)


def connect(config: Config) -> duckdb.DuckDBPyConnection:
    """Connect DuckDB to a workspace, local or in S3.

    Nothing but lists of files and small heads is read before a query asks for it; then
    only the columns and row groups that it needs. The connection shows the workspace as it
    was when it was made.

    Parameters
    ----------
    config : Config
        The configuration.

    Returns
    -------
    duckdb.DuckDBPyConnection
        With the views ``scores`` and ``regions`` (of all runs, also half done ones),
        ``runs``, ``models`` and ``images`` (the newest manifest of the configuration's
        archive). Columns as in docs/formats.md and docs/analysis.md.

    Examples
    --------
    >>> database = connect(load_config("audit.yaml"))                    # doctest: +SKIP
    >>> database.sql('FROM scores ORDER BY score DESC LIMIT 3').df()     # doctest: +SKIP
    """
    workspace = workspace_of(config)
    connection = open_connection(workspace.folder)
    heads = list_runs(workspace)
    add_views(connection, workspace, heads)
    _add_table(connection, "runs", RUNS_SCHEMA, [_run(head) for head in heads])
    _add_table(connection, "models", MODELS_SCHEMA, _models(workspace))
    images = _images(config, workspace)
    if images is None:
        connection.register("images", MANIFEST_SCHEMA.empty_table())
    else:
        connection.execute(f"CREATE VIEW images AS SELECT * FROM {images}")
    return connection


def add_views(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, heads: Sequence[Head]
) -> None:
    """Add the views ``scores`` and ``regions`` of these runs alone."""
    runs = [(workspace, head) for head in heads]
    for table in (SCORES, REGIONS):
        connection.execute(f"CREATE VIEW {table} AS {table_query(connection, table, runs)}")


def _add_table(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, rows: list[dict[str, Any]]
) -> None:
    """Add what is small as a table in memory; times as times."""
    source = pa.Table.from_pylist(rows, schema)
    times = [f"{column}::TIMESTAMPTZ AS {column}" for column in schema.names if "_at" in column]
    connection.register("_rows", source)
    connection.execute(f"CREATE TABLE {name} AS SELECT * REPLACE ({', '.join(times)}) FROM _rows")
    connection.unregister("_rows")


def _run(head: Head) -> dict[str, Any]:
    alarms = head.get("alarms") or {}
    statuses = {name: head["statuses"].get(name, 0) for name in _STATUSES if "statuses" in head}
    drifts = [group["z"] for group in (head.get("drift") or {}).values()]
    known = ("run_id", "model_id", "snapshot", "started_at", "asked_at", "finished_at", "images")
    return {
        **{name: head.get(name) for name in (*known, "flagged", "cutoff")},
        **statuses,
        "rule": alarms.get("rule"),
        "alpha": alarms.get("alpha"),
        "drift_z": max(drifts, default=None),
    }


def _models(workspace: Workspace) -> list[dict[str, Any]]:
    infos = sorted(list_models(workspace), key=lambda info: info.created_at)
    states = model_states(read_promotions(workspace.folder))
    return [
        {
            "model_id": info.model_id,
            "state": states.get(info.model_id, "candidate"),
            "created_at": info.created_at,
            "backbone": info.embedding.trunk.backbone,
            "channels": info.embedding.shape.depth,
            "groups": len(info.counts),
            "images": sum(info.counts.values()),
            "epsilon": info.epsilon,
        }
        for info in infos
    ]


def _images(config: Config, workspace: Workspace) -> str | None:
    """Files of the newest manifest; None where the archive was never indexed."""
    entry = last_entry(workspace.folder, archive_settings(config))
    if entry is None:
        return None
    path = f"manifests/{entry.snapshot}"
    names = [name for name in workspace.folder.list(path) if name.startswith("part-")]
    return files_query(workspace.folder.at(path, name) for name in names) if names else None
