"""The history of an archive: new, changed and removed images from one index to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from padim_dist.store.numbered import add_numbered, list_numbers, read_last, read_numbered
from padim_dist.store.order import in_order, next_turn
from padim_dist.store.records import unless_damaged
from padim_dist.store.workspace import Settings, Workspace

_ADVICE = (
    "Restore it from a copy of the workspace. If there is none, remove its folder and that of the "
    "archive's nights, which has the same name in nights/: the next index starts a new history, "
    "and the next audit a first night of all images"
)


@dataclass(frozen=True)
class Entry:
    """The result of an index.

    Attributes
    ----------
    number, snapshot : int, str
        Number, from 1, which ``fit.without`` takes; id of the manifest of all images.
    increment : str or None
        Id of the manifest of images that are new or changed since the previous entry: `snapshot`
        in the first entry; None if there are none.
    images, new, changed, gone : int
        Images in the archive, and those that differ from the previous entry.
    changes : str or None
        Path in the workspace of the table of these images; None in the first entry, where all
        are new.
    indexed_at : str
        ISO 8601, UTC.
    turn : int
        Its place among the entries of all archives of the workspace; see `padim_dist.store.order`.
    """

    number: int
    snapshot: str
    increment: str | None
    images: int
    new: int
    changed: int
    gone: int
    changes: str | None
    indexed_at: str
    turn: int = 0

    @property
    def day(self) -> str:
        """Date of the index, UTC."""
        return self.indexed_at[:10]


def read_history(
    workspace: Workspace, settings: Settings, after: int = 0, *, all_of_them: bool = True
) -> list[Entry]:
    """Read the entries of an archive after a number, the oldest first.

    A damaged one is an error, unless not `all_of_them` are needed, as in a list for people.
    """
    path = workspace.history(settings)
    return read_numbered(workspace, path, Entry, after, advice=_ADVICE, all_of_them=all_of_them)


def last_entry(workspace: Workspace, settings: Settings) -> Entry | None:
    """Return the newest entry of an archive; None if it was never indexed."""
    return read_last(workspace, workspace.history(settings), Entry, _ADVICE)


def read_entries(workspace: Workspace, archive: str, window: int, covered: int) -> list[Entry]:
    """Read the newest entry of an archive, the `window` newest ones, and all after `covered`.

    `archive` is the name of its folder.
    """
    path = f"{workspace.histories}/{archive}"
    last = max(list_numbers(workspace, path), default=0)
    after = min(last - max(window, 1), covered)
    return read_numbered(workspace, path, Entry, after, advice=_ADVICE)


def last_entries(workspace: Workspace) -> list[Entry]:
    """Return the newest entry of each archive, the newest last."""
    paths = [f"{workspace.histories}/{n}" for n in workspace.folder.list(workspace.histories)]
    reads = (partial(read_last, workspace, path, Entry, _ADVICE) for path in paths)
    found = filter(None, map(unless_damaged, reads))
    return in_order(found, lambda entry: entry.indexed_at)


def newest_entry(workspace: Workspace) -> Entry | None:
    """Return the newest entry of all archives of a workspace; None if none was indexed."""
    return next(reversed(last_entries(workspace)), None)


def add_entry(workspace: Workspace, settings: Settings, entry: Entry) -> bool:
    """Add an entry and give it its turn; False if there is one of this number already."""
    entry = replace(entry, turn=next_turn(last_entries(workspace)))
    return add_numbered(workspace, workspace.history(settings), entry)


def put_changes(
    workspace: Workspace, settings: Settings, before: str, now: str, table: bytes
) -> str:
    """Write the table of changes between two snapshots (Parquet); return its path."""
    path = f"{workspace.history(settings)}/changes-{before}-{now}.parquet"
    workspace.folder.put(path, table)
    return path
