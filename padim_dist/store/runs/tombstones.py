"""Tombstones: the counts of runs that `padim-dist prune` removed, a file for each month.

A file for each run would be one more object for each night, for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from padim_dist.core.alarms import Alarms
from padim_dist.store.records import read_record
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.head import RunHead
from padim_dist.store.workspace import Workspace

_PREFIX = "runs-"
_ADVICE = "Restore it from a copy of the workspace, or remove it: the counts in it are then lost"


@dataclass(frozen=True)
class WeekFigures:
    """Figures of a group, or of all groups (None), in a week.

    Attributes
    ----------
    week, group : str, str or None
        ISO week, UTC, e.g. ``"2026-W48"``.
    images, judged, flagged : int
        Scored images, those with a p-value, and flagged ones.
    median_score, median_p : float or None
        Medians; of all groups there is no median score.
    """

    week: str
    group: str | None
    images: int
    judged: int
    flagged: int
    median_score: float | None
    median_p: float | None


@dataclass(frozen=True)
class Tombstone:
    """The counts of a run that was removed.

    Attributes
    ----------
    run_id, model_id, snapshot, archive : str
        Ids of the run, its model and its manifest; name of the archive, None if unknown.
    night : int or None
        Newest night that it belongs to.
    pruned_at, started_at, asked_at, finished_at : str
        ISO 8601, UTC.
    turn, images : int
        Its place among the runs; its rows.
    statuses, flagged, alarms : mapping of str to int, int or None, Alarms or None
        Rows by status, flagged rows, and the rule of the flags.
    drift : mapping of str to DriftFigures
        Drift by group.
    weeks : sequence of WeekFigures
        Figures by week and group.
    """

    run_id: str
    model_id: str
    snapshot: str
    archive: str | None
    night: int | None
    pruned_at: str
    started_at: str
    asked_at: str
    finished_at: str | None
    turn: int
    images: int
    statuses: Mapping[str, int]
    flagged: int | None
    alarms: Alarms | None
    drift: Mapping[str, DriftFigures] = field(default_factory=dict)
    weeks: Sequence[WeekFigures] = ()

    @classmethod
    def of(
        cls, head: RunHead, night: int | None, weeks: Sequence[WeekFigures], pruned_at: str
    ) -> Tombstone:
        """Return the tombstone of a finished run."""
        copied = (
            *("run_id", "model_id", "snapshot", "archive", "started_at", "asked_at"),
            *("finished_at", "turn", "images", "statuses", "flagged", "alarms", "drift"),
        )
        same = {name: getattr(head, name) for name in copied}
        return cls(**same, night=night, weeks=tuple(weeks), pruned_at=pruned_at)


@dataclass(frozen=True)
class _Month:
    """A file of tombstones, by run."""

    runs: Mapping[str, Tombstone]


def put_tombstone(workspace: Workspace, stone: Tombstone) -> None:
    """Write the tombstone of a run, with those of the other runs that ended in its month.

    The caller holds the lease of `Workspace.pruned`: two writers at once would lose one.
    """
    month = (stone.finished_at or stone.asked_at)[:7]
    path = f"{workspace.pruned}/{_PREFIX}{month}.json"
    there = workspace.folder.exists(path)
    runs = dict(read_record(workspace.folder, path, _Month, _ADVICE).runs) if there else {}
    workspace.folder.put_json(path, asdict(_Month({**runs, stone.run_id: stone})))


def pruned_runs(workspace: Workspace, live: Iterable[str]) -> list[Tombstone]:
    """Return the tombstones of runs that are not there any more, given the ids of those that are.

    A run that was made again since it was removed has a tombstone too. Raises as
    `read_tombstones`.
    """
    there = set(live)
    return [stone for stone in read_tombstones(workspace) if stone.run_id not in there]


def read_tombstones(workspace: Workspace) -> list[Tombstone]:
    """Return the tombstones of all runs that were removed, the newest run last.

    A run that was made again and removed again may have one in two months: the later one counts.

    Raises
    ------
    DamagedFileError
        If a file of them is damaged.
    """
    names = [name for name in workspace.folder.list(workspace.pruned) if name.startswith(_PREFIX)]
    months = [
        read_record(workspace.folder, f"{workspace.pruned}/{name}", _Month, _ADVICE)
        for name in names
    ]
    stones = [stone for month in months for stone in month.runs.values()]
    in_order = sorted(stones, key=lambda stone: (stone.turn, stone.asked_at))
    newest = {stone.run_id: stone for stone in in_order}
    return [stone for stone in in_order if stone is newest[stone.run_id]]
