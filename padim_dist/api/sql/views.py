"""A workspace as a DuckDB database, with its tables as views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import duckdb
import pyarrow as pa

from padim_dist.api.settings.lookup import choose_run, models_and_states, pick_run
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_settings,
    locate,
    logger,
    workspace_of,
)
from padim_dist.api.settings.rules import Alpha, with_alpha
from padim_dist.api.sql.events import add_events
from padim_dist.api.sql.flags import literal
from padim_dist.api.sql.manifests import manifest_query
from padim_dist.api.sql.nights import NIGHTS_SCHEMA, NightRow, night_rows, with_night
from padim_dist.api.sql.normals import add_normals
from padim_dist.api.sql.reviews import add_reviews_table, with_verdicts
from padim_dist.api.sql.tables import open_connection, table_query
from padim_dist.archive.rows import MANIFEST_SCHEMA
from padim_dist.config import Config
from padim_dist.core.status import STATUSES, UNSETTLED
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Options
from padim_dist.store.history import last_entry, newest_entry
from padim_dist.store.manifests import find_head
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import REGIONS, SCORES
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tombstones import Tombstone, pruned_runs
from padim_dist.store.workspace import Workspace

VIEWS = (
    *(
        "latest",
        "scores",
        "regions",
        "events",
        "groups",
        "nights",
        "reviews",
        "runs",
        "models",
        "normals",
    ),
    "images",
)
RUNS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "model_id", "snapshot", "archive")),
        *((name, pa.string()) for name in ("started_at", "asked_at", "finished_at", "pruned_at")),
        *((name, pa.int64()) for name in ("images", *STATUSES, "flagged")),
        ("turn", pa.int64()),
        ("rule", pa.string()),
        *((name, pa.float64()) for name in ("alpha", "cutoff", "drift_z")),
    ]
)
_LATEST = f"""
    SELECT scores.* FROM scores
    JOIN (SELECT run_id, archive, turn, asked_at FROM runs) AS newest USING (run_id)
    QUALIFY 1 = row_number() OVER (
        PARTITION BY archive, image_id
        ORDER BY status IN ({", ".join(map(literal, sorted(UNSETTLED)))}), turn DESC, asked_at DESC
    )
"""
"""The newest row of each image. One that could not be reached hides no earlier one."""
MODELS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("model_id", "state", "created_at", "backbone")),
        *((name, pa.int64()) for name in ("channels", "groups", "images")),
        ("epsilon", pa.float64()),
    ]
)


def connect(
    where: ConfigLike, storage_options: Options | None = None, *, run: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Connect DuckDB to a workspace, local or in S3.

    Only lists of files and small heads are read before a query; the query reads only the columns
    and row groups that it needs. It shows the workspace at the time of this call. The connection is
    yours: its SQL may read and write any file that you may. For the SQL of others there is `query`.

    Parameters
    ----------
    where : Config, str or path
        A configuration, the path of its YAML file, or the URL of a workspace.
    storage_options : mapping, optional
        fsspec options by protocol, for a URL.
    run : str, optional
        Id of a run, or a unique prefix, also of one that is half done: ``scores`` and ``regions``
        have only its rows. By default they have the rows of all finished runs.

    Returns
    -------
    duckdb.DuckDBPyConnection
        With the views ``latest`` (a row for each image, of the newest run that has it),
        ``scores`` (every row of every run), ``regions``, ``events``, ``groups``, ``nights``,
        ``reviews``, ``runs``, ``models``, ``normals`` and ``images`` (the newest manifest of the
        configuration's archive, or of the workspace). Columns as in docs/formats.md and
        docs/analysis.md.

    Examples
    --------
    >>> database = connect("./audit")                                    # doctest: +SKIP
    >>> database.sql('FROM latest ORDER BY p_value LIMIT 3').df()        # doctest: +SKIP
    """
    connection, _ = open_views(where, storage_options, run)
    return connection


def open_views(
    where: ConfigLike,
    storage_options: Options | None,
    run: str | None,
    alpha: Alpha | None = None,
) -> tuple[duckdb.DuckDBPyConnection, list[RunHead]]:
    """Connect as `connect`; return also the heads of the runs in ``scores`` and ``regions``.

    With `alpha`, flags are those of this alpha; a configuration is needed then.
    """
    folder, config = locate(where, storage_options)
    workspace = Workspace(folder)
    heads = list_runs(workspace)
    if config:
        heads = [with_alpha(config, head, alpha) for head in heads]
    finished = [head for head in heads if head.is_finished]
    shown = [pick_run(workspace, heads, run)] if run else finished
    connection = open_connection(workspace)
    nights = night_rows(workspace)
    reviewed = add_views(connection, workspace, shown, nights)
    _add_table(connection, "nights", NIGHTS_SCHEMA, [vars(night) for night in nights])
    archives = {head.run_id: head.archive or _archive(workspace, head) for head in heads}
    runs = [_run(head) | {"archive": archives[head.run_id]} for head in heads]
    gone = unless_damaged(lambda: pruned_runs(workspace, archives), "pruned runs are left out")
    runs = [*(_run(stone) for stone in gone or ()), *runs]
    _add_table(connection, "runs", RUNS_SCHEMA, runs)
    connection.execute(f"CREATE VIEW latest AS {_LATEST}")
    connection.execute(f"CREATE VIEW groups AS {_groups(shown, archives)}")
    _add_table(connection, "models", MODELS_SCHEMA, _models(workspace))
    add_normals(connection, workspace)
    images = unless_damaged(lambda: _images(workspace, config), "the view images is empty")
    try:
        if images:
            listed = with_verdicts(f"SELECT * FROM {images}", reviewed)
            connection.execute(f"CREATE VIEW images AS {listed}")
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        logger.warning("the manifest is damaged, and the view images is empty: %s", reason)
        images = None
    if not images:
        connection.register("_images", MANIFEST_SCHEMA.empty_table())
        connection.execute(f"CREATE VIEW images AS {with_verdicts('FROM _images', False)}")
    return connection, shown


def add_views(
    connection: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    heads: Sequence[RunHead],
    nights: Sequence[NightRow] = (),
) -> bool:
    """Add the table ``reviews`` and the views ``scores``, ``regions``, ``events`` of some runs.

    The rows of both have their night if `nights` are given. Return whether there are reviews. Runs
    with a damaged file are left out, with a warning; a single run, or the last one that is left, is
    an error instead.
    """
    runs = [(Run(workspace, head.run_id), head) for head in heads]
    tables = (SCORES, REGIONS)
    try:
        queries = [table_query(connection, table, runs) for table in tables]
    except DamagedFileError:
        sound = len(runs) > 1 and [run for run in runs if unless_damaged(partial(_check, run))]
        if not sound:
            raise
        runs = sound
        queries = [table_query(connection, table, runs) for table in tables]
    reviewed = add_reviews_table(connection, workspace) > 0
    scores, regions = (with_night(connection, query, nights) for query in queries)
    connection.execute(f"CREATE VIEW scores AS {with_verdicts(scores, reviewed)}")
    connection.execute(f"CREATE VIEW regions AS {regions}")
    add_events(connection)
    return reviewed


def _check(one: tuple[Run, RunHead]) -> bool:
    """Raise a `DamagedFileError` if a file of a run is damaged; else return True."""
    run, _ = one
    for damage in (*run.scores.find_damaged(), *run.regions.find_damaged()):
        raise damage
    return True


def _add_table(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, rows: list[dict[str, Any]]
) -> None:
    """Add rows as a table in memory; columns with a time get its type."""
    source = pa.Table.from_pylist(rows, schema)
    times = [f"{column}::TIMESTAMPTZ AS {column}" for column in schema.names if "_at" in column]
    connection.register("_rows", source)
    connection.execute(f"CREATE TABLE {name} AS SELECT * REPLACE ({', '.join(times)}) FROM _rows")
    connection.unregister("_rows")


def run_views(
    config: Config, run: str | None, alpha: Alpha | None = None
) -> tuple[RunHead, duckdb.DuckDBPyConnection]:
    """Choose a run; open a database with its views ``scores``, ``regions`` and ``reviews``.

    With `alpha`, flags are those of this alpha.
    """
    workspace = workspace_of(config)
    head = with_alpha(config, choose_run(workspace, run), alpha)
    connection = open_connection(workspace)
    add_views(connection, workspace, [head])
    return head, connection


def _run(head: RunHead | Tombstone) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(head).items() if name in RUNS_SCHEMA.names},
        **{name: head.statuses.get(name, 0) for name in STATUSES if head.finished_at},
        "rule": head.alarms.rule if head.alarms else None,
        "alpha": head.alarms.alpha if head.alarms else None,
        "drift_z": max((drift.z for drift in head.drift.values()), default=None),
    }


def _archive(workspace: Workspace, head: RunHead) -> str | None:
    """Return the archive of a run of version 0.1, whose head does not say it."""
    manifest = unless_damaged(lambda: find_head(workspace, head.snapshot))
    return manifest.settings.get("url") if manifest else None


def _groups(heads: Sequence[RunHead], archives: Mapping[str, str | None]) -> str:
    """Return the SQL of the view ``groups``, given the runs, the newest last."""
    drifts = {
        (archives[run.run_id], group): drift.z
        for run in heads
        for group, drift in run.drift.items()
        if isfinite(drift.z)  # JSON of earlier versions may have others
    }
    rows = ", ".join(
        f"({literal(archive or '')}, {literal(group)}, {z!r}::DOUBLE)"
        for (archive, group), z in drifts.items()
    )
    known = f"VALUES {rows}" if rows else "SELECT NULL, NULL, NULL::DOUBLE WHERE false"
    return f"""
        SELECT archive, "group", count(*) AS images, count(score) AS scored,
            count(*) FILTER (flagged) AS flagged,
            count(*) FILTER (flagged) / nullif(count(flagged), 0) AS flagged_share,
            median(score) AS median_score, max(score) AS highest_score, min(p_value) AS lowest_p,
            any_value(z) AS drift_z
        FROM latest JOIN (SELECT run_id, archive FROM runs) USING (run_id)
        LEFT JOIN ({known}) AS drifts(archive, "group", z) USING (archive, "group")
        WHERE "group" IS NOT NULL GROUP BY archive, "group"
        ORDER BY flagged_share DESC NULLS LAST, drift_z DESC NULLS LAST, "group"
    """


def _models(workspace: Workspace) -> list[dict[str, Any]]:
    return [
        {
            "model_id": info.model_id,
            "state": state,
            "created_at": info.created_at,
            "backbone": info.embedding.trunk.backbone,
            "channels": info.embedding.shape.depth,
            "groups": len(info.counts),
            "images": sum(info.counts.values()),
            "epsilon": info.epsilon,
        }
        for info, state in models_and_states(workspace)
    ]


def _images(workspace: Workspace, config: Config | None) -> str | None:
    """Return the SQL of the newest manifest; None if no archive was indexed."""
    settings = archive_settings(config) if config else None
    entry = last_entry(workspace, settings) if settings else newest_entry(workspace)
    return manifest_query(workspace, entry.snapshot) if entry else None
