"""The history of an archive: new, changed and removed images from one index to the next."""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.workspace import Settings, Workspace


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
    """Read the entries of an archive after a number, the oldest first."""
    return read_numbered(workspace, workspace.history(settings), Entry, after)


def last_entry(workspace: Workspace, settings: Settings) -> Entry | None:
    """Return the newest entry of an archive; None if it was never indexed."""
    return read_last(workspace, workspace.history(settings), Entry)


def last_entries(workspace: Workspace) -> list[Entry]:
    """Return the newest entry of each archive of a workspace."""
    paths = [f"{workspace.histories}/{n}" for n in workspace.folder.list(workspace.histories)]
    return [entry for path in paths if (entry := read_last(workspace, path, Entry))]


def newest_entry(workspace: Workspace) -> Entry | None:
    """Return the newest entry of all archives of a workspace; None if none was indexed."""
    return max(last_entries(workspace), key=lambda entry: entry.indexed_at, default=None)


def add_entry(workspace: Workspace, settings: Settings, entry: Entry) -> bool:
    """Add an entry; False if another index has already added one of this number."""
    return add_numbered(workspace, workspace.history(settings), entry)


def put_changes(
    workspace: Workspace, settings: Settings, before: str, now: str, table: bytes
) -> str:
    """Write the table of changes between two snapshots (Parquet); return its path."""
    path = f"{workspace.history(settings)}/changes-{before}-{now}.parquet"
    workspace.folder.put(path, table)
    return path
