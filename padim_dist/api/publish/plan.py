"""Which runs are to be published, and with which night.

A run that several nights have, since images had to be tried again, belongs to the newest of them,
as in the view ``scores``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from padim_dist.api.publish.rows import Piece
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import archive_settings, logger, workspace_of
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.store.nights import NightSummary, find_summary, last_night, read_nights
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs

_THREADS = 16


def all_nights(config: Config) -> list[Piece]:
    """Return the finished nights of the archive, the oldest first."""
    found = read_nights(workspace_of(config), archive_settings(config))
    return _pieces(config, [summary for _, summary in found if summary])


def one_night(config: Config, number: int) -> Piece:
    """Return a finished night.

    Raises
    ------
    RequestError
        If there is none of this number, or it has no rows.
    """
    for piece in all_nights(config):
        if piece.night == number:
            return piece
    raise RequestError(
        f"night {number} has no rows to publish: it is not finished, no image came, or a later "
        "night has its runs; 'padim-dist nights' lists the nights"
    )


def one_run(config: Config, asked: str) -> Piece:
    """Return a finished run, with its night if it has one.

    Raises
    ------
    RequestError
        If there is none of this id or prefix, or it is not finished.
    """
    head = choose_run(workspace_of(config), asked)
    if not head.is_finished:
        raise RequestError(
            f"run {head.run_id} is half done; run 'padim-dist score' again: it resumes"
        )
    for piece in all_nights(config):
        if any(run.run_id == head.run_id for run in piece.runs):
            return Piece(piece.night, piece.day, [head])
    return _alone(head)


def all_runs(config: Config) -> list[Piece]:
    """Return the finished nights of the archive, then its finished runs that no night has."""
    nights, name = all_nights(config), archive_settings(config)["url"]
    taken = {run.run_id for night in nights for run in night.runs}
    others = [
        head
        for head in list_runs(workspace_of(config))
        if head.is_finished and head.run_id not in taken and head.archive in (None, name)
    ]
    return [*nights, *map(_alone, others)]


def new_nights(config: Config, number: int) -> tuple[list[Piece], int]:
    """Return the nights after a number, the oldest first, and the number of the last of them.

    It ends before a night that is not finished: it is the newest, or its summary is damaged. What
    this costs depends on these nights, not on earlier ones.
    """
    workspace, settings = workspace_of(config), archive_settings(config)
    newest = last_night(workspace, settings)
    found: list[NightSummary] = []
    for later in range(number + 1, newest.number + 1 if newest else 0):
        summary = find_summary(workspace, workspace.night(settings, later))
        if summary is None:
            break
        found.append(summary)
        number = later
    return _pieces(config, found), number


def _pieces(config: Config, summaries: Sequence[NightSummary]) -> list[Piece]:
    """Return nights with the runs that belong to them; nights without any are left out."""
    newest = {run: summary.number for summary in summaries for run in summary.runs}
    heads = _heads(config, newest)
    pieces = []
    for summary in summaries:
        own = [run for run in dict.fromkeys(summary.runs) if newest[run] == summary.number]
        if runs := [heads[run] for run in own if run in heads]:
            pieces.append(Piece(summary.number, date.fromisoformat(summary.day), runs))
    return pieces


def _heads(config: Config, runs: Iterable[str]) -> dict[str, RunHead]:
    """Return the heads of runs; those that are gone or damaged are left out, with a warning."""

    def find(run_id: str) -> RunHead | None:
        head = unless_damaged(Run(workspace_of(config), run_id).find_head)
        if head is None:
            logger.warning("run %s is not published: it has no run.json", run_id)
        return head

    with ThreadPoolExecutor(_THREADS) as pool:
        return {head.run_id: head for head in pool.map(find, runs) if head}


def _alone(head: RunHead) -> Piece:
    return Piece(None, date.fromisoformat(head.started_at[:10]), [head])
