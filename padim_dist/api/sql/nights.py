"""Which nights the runs of a workspace belong to, for views and titles."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import pyarrow as pa

from padim_dist.store.nights import NightSummary, night_title
from padim_dist.store.numbered import list_numbers
from padim_dist.store.records import find_record, unless_damaged
from padim_dist.store.workspace import Workspace

NIGHTS_SCHEMA = pa.schema(
    [
        ("night", pa.int64()),
        *((name, pa.string()) for name in ("title", "day", "state")),
        *((name, pa.int64()) for name in ("images", "scored", "flagged", "unusable")),
        *((name, pa.string()) for name in ("model_id", "archive")),
        *((name, pa.list_(pa.string())) for name in ("runs", "reasons")),
        *((name, pa.string()) for name in ("opened_at", "finished_at")),
    ]
)
"""Columns of the view ``nights``; see `NightRow`."""
_THREADS = 16
T = TypeVar("T")


@dataclass(frozen=True)
class NightRow:
    """A row of the view ``nights``: a finished night.

    Attributes
    ----------
    night, title, day : int, str, str
        Number, title that people know, and date of its opening (UTC).
    state : str
        ``"done"`` or ``"odd"``.
    images, scored, flagged, unusable : int or None
        Rows, rows with a score, flagged ones when the night was summed up (None if no row has a
        p-value), and rows without a score.
    model_id, archive : str
        Id of its model; name of its archive.
    runs, reasons : list of str
        Ids of its runs; why it is odd.
    opened_at, finished_at : str
        ISO 8601, UTC.
    """

    night: int
    title: str
    day: str
    state: str
    images: int
    scored: int
    flagged: int | None
    unusable: int
    model_id: str
    archive: str
    runs: list[str]
    reasons: list[str]
    opened_at: str
    finished_at: str

    @classmethod
    def of(cls, summary: NightSummary) -> NightRow:
        """Return the row of a night."""
        return cls(
            night=summary.number,
            title=summary.title,
            day=summary.day,
            state=summary.state,
            images=summary.images,
            scored=summary.images - summary.unusable,
            flagged=summary.flagged,
            unusable=summary.unusable,
            model_id=summary.model_id,
            archive=summary.archive,
            runs=summary.runs,
            reasons=summary.reasons,
            opened_at=summary.opened_at,
            finished_at=summary.finished_at,
        )


def read_summaries(workspace: Workspace, kind: type[T]) -> list[T]:
    """Return the summaries of the finished nights of all archives, by archive and number.

    Parameters
    ----------
    kind : type
        `NightSummary`, or a dataclass with some of its fields, which is faster to read.
    """
    lists = [f"nights/{name}" for name in workspace.folder.list("nights")]
    nights = [f"{path}/night-{n:05d}" for path in lists for n in list_numbers(workspace, path)]

    def read(path: str) -> T | None:
        file = f"{path}/summary.json"
        return unless_damaged(
            lambda: find_record(workspace.folder, file, kind), "the night counts as not finished"
        )

    with ThreadPoolExecutor(_THREADS) as pool:
        return [found for found in pool.map(read, nights) if found is not None]


@dataclass(frozen=True)
class NightHead:
    """Which runs a night has: some fields of its summary."""

    number: int
    day: str
    runs: list[str]
    archive: str = ""


def night_rows(workspace: Workspace) -> list[NightRow]:
    """Return the rows of the view ``nights``: all finished nights, by archive and number."""
    return [NightRow.of(summary) for summary in read_summaries(workspace, NightSummary)]


def with_night(
    connection: duckdb.DuckDBPyConnection, query: str, nights: Iterable[NightRow]
) -> str:
    """Return the SQL of rows of runs with a column ``night``: the newest one of their run.

    Parameters
    ----------
    connection : DuckDBPyConnection
        Gets a table of the nights of runs.
    query, nights : str, iterable of NightRow
        SQL of rows with a column ``run_id``; all nights.
    """
    newest = {run: row.night for row in nights for run in row.runs}
    if not newest:
        return f"SELECT *, NULL::BIGINT AS night FROM ({query})"
    table = pa.table(
        {
            "run_id": pa.array(newest.keys(), pa.string()),
            "night": pa.array(newest.values(), pa.int64()),
        }
    )
    connection.register("_nights", table)
    connection.execute("CREATE OR REPLACE TABLE _night_of_runs AS FROM _nights")
    connection.unregister("_nights")
    return f"SELECT rows.*, night FROM ({query}) AS rows LEFT JOIN _night_of_runs USING (run_id)"


def title_of_run(workspace: Workspace, run_id: str) -> str | None:
    """Return the title of the newest finished night of a run; None if no night has it."""
    heads = [head for head in read_summaries(workspace, NightHead) if run_id in head.runs]
    return night_title(heads[-1].number, heads[-1].day, heads[-1].archive) if heads else None
