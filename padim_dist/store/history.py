"""The history of an archive: new, changed and removed images from one index to the next."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.workspace import Settings, Workspace


@dataclass(frozen=True)
class Entry:
    """The result of an index.

    Attributes
    ----------
    number : int
        Number of the entry, from 1; ``fit.without`` takes it.
    snapshot : str
        Id of the manifest of all images.
    increment : str or None
        Id of the manifest of images that are new or changed since the previous entry: `snapshot`
        in the first entry; None if there are none.
    images : int
        Images in the archive.
    new, changed, gone : int
        Images since the previous entry.
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
    return [
        Entry(**values) for values in read_numbered(workspace, workspace.history(settings), after)
    ]


def last_entry(workspace: Workspace, settings: Settings) -> Entry | None:
    """Return the newest entry of an archive; None if it was never indexed."""
    values = read_last(workspace, workspace.history(settings))
    return Entry(**values) if values else None


def newest_entry(workspace: Workspace) -> Entry | None:
    """Return the newest entry of all archives of a workspace; None if none was indexed."""
    paths = [f"{workspace.histories}/{n}" for n in workspace.folder.list(workspace.histories)]
    entries = [Entry(**values) for path in paths if (values := read_last(workspace, path))]
    return max(entries, key=lambda entry: entry.indexed_at, default=None)


def add_entry(workspace: Workspace, settings: Settings, entry: Entry) -> bool:
    """Add an entry; False if another index has already added one of this number."""
    return add_numbered(workspace, workspace.history(settings), entry.number, asdict(entry))


def put_changes(
    workspace: Workspace, settings: Settings, before: str, now: str, table: bytes
) -> str:
    """Write the table of changes between two snapshots (Parquet); return its path."""
    path = workspace.changes(settings, before, now)
    workspace.folder.put(path, table)
    return path
