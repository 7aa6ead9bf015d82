"""Tombstones of runs that go: their counts, by night, week and group."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

import duckdb

from padim_dist.api.retention.policy import Item
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.nights import NightHead
from padim_dist.api.sql.tables import open_connection, table_query
from padim_dist.api.sql.weeks import week_figures
from padim_dist.errors import DamagedFileError
from padim_dist.store.records import find_record, unless_damaged
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tombstones import Tombstone, WeekFigures, put_tombstone
from padim_dist.store.workspace import Workspace


def nights_of_runs(workspace: Workspace, nights: Iterable[Item]) -> dict[str, int]:
    """Return the newest of some nights that each run belongs to."""
    paths = [f"{item.key[1]}/summary.json" for item in nights]
    reads = [partial(find_record, workspace.folder, path, NightHead) for path in paths]
    heads = sorted(filter(None, map(unless_damaged, reads)), key=lambda head: head.number)
    return {run: head.number for head in heads for run in head.runs}


def bury(run: Run, night: int | None) -> None:
    """Write the tombstone of a finished run whose lease is held."""
    head = run.head()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    put_tombstone(run.workspace, Tombstone.of(head, night, _weeks(run, head), now))


def _weeks(run: Run, head: RunHead) -> list[WeekFigures]:
    try:
        connection = open_connection(run.workspace)
        return week_figures(connection.sql(table_query(connection, SCORES, [(run, head)])))
    except (DamagedFileError, duckdb.Error) as error:
        # The counts of the head stay.
        logger.warning("run %s goes without its figures by week: %s", run.run_id, error)
        return []
