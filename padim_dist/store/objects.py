"""All objects below a folder of a workspace, with their sizes and times of change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from padim_dist.storage import Folder

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
"""Names that file systems of fsspec give to the time of the last change."""
_AT_ONCE = 1000


@dataclass(frozen=True)
class StoredObject:
    """An object: its path in the folder, bytes, and last change by the clock of the store."""

    path: str
    size: int
    modified: datetime


def list_objects(folder: Folder, path: str) -> list[StoredObject]:
    """Return all objects below a path, in order; none if there is no such path.

    On an object store it costs a request for each thousand of them.
    """
    root = folder.at(path)
    found = folder.fs.find(root, detail=True)
    # Addresses in answers lack the protocol; below the path they are alike.
    start = str(folder.fs._strip_protocol(root)).rstrip("/")
    return [
        StoredObject(f"{path}{str(name).removeprefix(start)}", int(info["size"]), _modified(info))
        for name, info in sorted(found.items())
    ]


def remove_objects(folder: Folder, paths: Iterable[str]) -> None:
    """Remove objects, a thousand in a request where the store can; those that are gone are."""
    left = list(paths)
    if folder.is_local:
        for path in left:
            folder.remove(path)
        return
    for first in range(0, len(left), _AT_ONCE):
        folder.fs.rm([folder.at(path) for path in left[first : first + _AT_ONCE]])


def _modified(info: dict[str, Any]) -> datetime:
    """Return the time of the last change; an object without one is as new as can be."""
    value = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.max.replace(tzinfo=UTC)
