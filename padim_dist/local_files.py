"""Local files: their paths, and how they are written at once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes


def local_path(address: str) -> str:
    """Return the local path that a ``file://`` address means; any other address as it is.

    ``%20`` is a space, unless a file of the name as written exists.

    Examples
    --------
    >>> local_path("file:///data/a%20b.jpg"), local_path("s3://data/a%20b.jpg")
    ('/data/a b.jpg', 's3://data/a%20b.jpg')
    """
    if not address.startswith("file://"):
        return address
    path = address.removeprefix("file://")
    path = path.removeprefix("localhost") if path.startswith("localhost/") else path
    if "%" not in path or os.path.lexists(path):
        return path
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))


def write_local(
    target: str, write: Callable[[Path], object], place: Callable[[Path, str], object] = os.replace
) -> None:
    """Write a temporary file, whose name engines that read folders skip; then put it in place.

    Parameters
    ----------
    target : str
        Path of the file; its folder is made.
    write : callable
        Writes the content to a path.
    place : callable, optional
        Gives the complete file its name.
    """
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        place(draft, target)
    finally:
        draft.unlink(missing_ok=True)
