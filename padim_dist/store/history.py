"""The history of an archive: what came, changed and went from one index to the next."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.workspace import Settings, Workspace


@dataclass(frozen=True)
class Entry:
    """What one index found.

    Attributes
    ----------
    number : int
        Of the entry, from 1; names it, as in ``fit.without``.
    snapshot : str
        The manifest of all images.
    increment : str or None
        The manifest of those that are new or changed since the entry before: the same as
        `snapshot` in the first entry, None where there are none.
    images : int
        In the archive.
    new, changed, gone : int
        Images since the entry before.
    changes : str or None
        Path in the workspace of the table of these, with a row each; None in the first
        entry, in which all are new.
    indexed_at : str
        ISO 8601, UTC.
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

    @property
    def day(self) -> str:
        """Date of the index, UTC."""
        return self.indexed_at[:10]


def read_history(workspace: Workspace, settings: Settings, after: int = 0) -> list[Entry]:
    """Entries of an archive whose number is higher, the oldest first."""
    return [
        Entry(**values) for values in read_numbered(workspace, workspace.history(settings), after)
    ]


def last_entry(workspace: Workspace, settings: Settings) -> Entry | None:
    """The newest entry of an archive; None if it was never indexed."""
    values = read_last(workspace, workspace.history(settings))
    return Entry(**values) if values else None


def newest_entry(workspace: Workspace) -> Entry | None:
    """Return the newest entry of all archives of a workspace; None if none was indexed."""
    paths = [f"{workspace.histories}/{n}" for n in workspace.folder.list(workspace.histories)]
    entries = [Entry(**values) for path in paths if (values := read_last(workspace, path))]
    return max(entries, key=lambda entry: entry.indexed_at, default=None)


def add_entry(workspace: Workspace, settings: Settings, entry: Entry) -> bool:
    """Add an entry; False if another index was faster to make one of this number."""
    return add_numbered(workspace, workspace.history(settings), entry.number, asdict(entry))


def put_changes(
    workspace: Workspace, settings: Settings, before: str, now: str, table: bytes
) -> str:
    """Keep a table of differences between two snapshots (Parquet); its path."""
    path = workspace.changes(settings, before, now)
    workspace.folder.put(path, table)
    return path
