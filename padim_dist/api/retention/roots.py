"""Roots: what the next night, fit or command needs, whatever its age."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from padim_dist.api.retention.facts import Facts
from padim_dist.store.history import Entry, read_entries
from padim_dist.store.nights import Night, NightSummary, find_summary, newest_night
from padim_dist.store.promotions import model_states, read_promotions
from padim_dist.store.workspace import Workspace

NEWEST_NIGHT = "the newest night"
OPEN_NIGHT = "an open night needs it"


@dataclass(frozen=True)
class ArchiveRoots:
    """What the nights and the history of an archive need.

    Attributes
    ----------
    night, summary : Night or None, NightSummary or None
        Its newest night, and the summary if it is finished.
    manifests : mapping of str to str
        Why manifests stay, by id.
    """

    night: Night | None
    summary: NightSummary | None
    manifests: Mapping[str, str]

    @property
    def is_open(self) -> bool:
        """Whether a night was opened and not finished."""
        return self.night is not None and self.summary is None

    @property
    def runs(self) -> Sequence[str]:
        """Runs of the newest night, if it is finished."""
        return self.summary.runs if self.summary else ()

    def has(self, run: Facts) -> bool:
        """Return whether a run scores images of the newest night with its model."""
        night = self.night
        if night is None or run.model != night.model_id:
            return False
        return not {*night.snapshots}.isdisjoint(run.manifests)


def archive_roots(workspace: Workspace, archive: str, window: int) -> ArchiveRoots:
    """Return the roots of an archive, given the name of its folders.

    Parameters
    ----------
    workspace, archive : Workspace, str
        Where its history and its nights are.
    window : int
        Entries of the history that the next fit may merge.

    Raises
    ------
    DamagedFileError
        If a record is damaged: what it needs is not known then.
    """
    night = newest_night(workspace, archive)
    summary = find_summary(workspace, night.path) if night else None
    # A first night would cover the newest index as a whole.
    entries = read_entries(workspace, archive, window, night.last if night else sys.maxsize)
    covered = night.last if night else entries[-1].number if entries else 0
    manifests: dict[str, str] = {}
    for entry in entries:
        if entry.increment:
            manifests[entry.increment] = _why(entry, covered, window)
    if night and summary is None:
        manifests |= dict.fromkeys(night.snapshots, OPEN_NIGHT)
    if entries:
        manifests[entries[-1].snapshot] = "the newest index"
    return ArchiveRoots(night, summary, manifests)


def model_roots(workspace: Workspace, models: Mapping[str, Facts]) -> dict[str, str]:
    """Return why models stay: they are or were promoted, or they are the newest of an archive."""
    roots: dict[str, str] = {}
    newest: dict[str, str] = {}
    for name in in_turn(models):
        newest |= dict.fromkeys(models[name].archives, name)
    roots |= dict.fromkeys(newest.values(), "the newest model of its archive")
    words = {"promoted": "promoted", "retired": "promoted before"}
    states = model_states(read_promotions(workspace))
    return roots | {name: words[state] for name, state in states.items()}


def run_roots(runs: Mapping[str, Facts], archives: Iterable[ArchiveRoots]) -> dict[str, str]:
    """Return why runs stay: a night that is open, or the newest, has them, or they are newest."""
    finished = [name for name in in_turn(runs) if runs[name].is_finished]
    roots = dict.fromkeys(finished[-1:], "the newest run")
    for archive in archives:
        roots |= dict.fromkeys(archive.runs, NEWEST_NIGHT)
        if archive.is_open:
            own = [name for name, run in runs.items() if archive.has(run)]
            roots |= dict.fromkeys(own, OPEN_NIGHT)
    return roots


def in_turn(facts: Mapping[str, Facts]) -> list[str]:
    """Return names with the newest last."""
    return sorted(facts, key=lambda name: (facts[name].turn, facts[name].at))


def _why(entry: Entry, covered: int, window: int) -> str:
    if entry.number > covered:
        return "no night has covered it"
    return f"in the window of {window} entries" if window else "the newest index"
