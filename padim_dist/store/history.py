"""The history of an archive: what came, changed and went from one index to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from padim_dist.storage import Folder
from padim_dist.store.numbered import add_numbered, read_last, read_numbered
from padim_dist.store.workspace import content_id


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


def history_path(settings: Mapping[str, Any]) -> str:
    """Folder, in the workspace, of the history of an archive with these settings."""
    return f"snapshots/{content_id({'archive': dict(settings)})}"


def read_history(folder: Folder, settings: Mapping[str, Any], after: int = 0) -> list[Entry]:
    """Entries of an archive whose number is higher, the oldest first."""
    return [Entry(**values) for values in read_numbered(folder, history_path(settings), after)]


def last_entry(folder: Folder, settings: Mapping[str, Any]) -> Entry | None:
    """The newest entry of an archive; None if it was never indexed."""
    values = read_last(folder, history_path(settings))
    return Entry(**values) if values else None


def add_entry(folder: Folder, settings: Mapping[str, Any], entry: Entry) -> bool:
    """Add an entry; False if another index was faster to make one of this number."""
    return add_numbered(folder, history_path(settings), entry.number, asdict(entry))


def put_changes(
    folder: Folder, settings: Mapping[str, Any], before: str, now: str, table: bytes
) -> str:
    """Keep a table of differences between two snapshots (Parquet); its path."""
    path = f"{history_path(settings)}/changes-{before}-{now}.parquet"
    folder.put(path, table)
    return path
