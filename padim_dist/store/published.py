"""Which runs are in published tables: a small file for each run and place where tables are.

The file is written before the tables change, without a revision, and again when they have changed.
So it always names every day under which the tables may have rows of the run. It is no proof that
they have them: publishing replaces the rows of a run, and may be repeated at any time.

A file for each archive says up to which number a place has all its nights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from padim_dist.store.records import find_receipt
from padim_dist.store.workspace import Settings, Workspace


@dataclass(frozen=True)
class Published:
    """A run in published tables.

    Attributes
    ----------
    run_id : str
        The run.
    tables : str
        Identity of the tables; tables that were removed and made again have another one.
    days : sequence of str
        Days (ISO 8601) under which the tables may have rows of the run.
    night : int or None
        Number of the night that it was published with; None if it belonged to none.
    revision : str or None
        What the rows depend on; None while the tables are being written.
    images, regions : int
        Rows of the tables.
    published_at : str
        When that was (ISO 8601, UTC); empty while the tables are being written.
    """

    run_id: str
    tables: str
    days: Sequence[str]
    night: int | None
    revision: str | None = None
    images: int = 0
    regions: int = 0
    published_at: str = ""


@dataclass(frozen=True)
class PublishedNights:
    """Nights of an archive in published tables.

    Attributes
    ----------
    tables : str
        Identity of the tables.
    number : int
        The tables have all nights up to the one of this number.
    """

    tables: str
    number: int


def find_published(workspace: Workspace, place: str, run_id: str) -> Published | None:
    """Return what is known of a run at a place; None if nothing is, or the file is damaged."""
    return find_receipt(workspace.folder, _file(workspace.published(place), run_id), Published)


def put_published(workspace: Workspace, place: str, published: Published) -> None:
    """Write what is known of a run at a place."""
    path = _file(workspace.published(place), published.run_id)
    workspace.folder.put_json(path, asdict(published))


def published_days(workspace: Workspace, runs: Iterable[str]) -> set[str]:
    """Return all days (ISO 8601) under which tables may have rows of runs.

    Of all places, whatever the identity of the tables: one of two tables may have been made again,
    or have another name now, while the other one still has its rows.
    """
    places = workspace.folder.list(workspace.all_published)
    files = [_file(f"{workspace.all_published}/{one}", run) for one in places for run in runs]
    found = (find_receipt(workspace.folder, file, Published) for file in files)
    return {day for one in found if one for day in one.days}


def published_nights(workspace: Workspace, place: str, tables: str, settings: Settings) -> int:
    """Return the number up to which tables have all nights of an archive; 0: it is not known."""
    path = _nights_file(workspace, place, settings)
    found = find_receipt(workspace.folder, path, PublishedNights)
    return found.number if found and found.tables == tables else 0


def put_published_nights(
    workspace: Workspace, place: str, settings: Settings, nights: PublishedNights
) -> None:
    """Write up to which number tables have all nights of an archive."""
    workspace.folder.put_json(_nights_file(workspace, place, settings), asdict(nights))


def _nights_file(workspace: Workspace, place: str, settings: Settings) -> str:
    return f"{workspace.published(place)}/{workspace.nights(settings)}.json"


def _file(place: str, run_id: str) -> str:
    return f"{place}/runs/{run_id}.json"
