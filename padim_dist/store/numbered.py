"""Append-only lists: a small numbered JSON file for each entry, a dataclass with a `number`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from padim_dist.store.records import read_record, unless_damaged
from padim_dist.store.workspace import Workspace

Numbered = TypeVar("Numbered")


def read_numbered(
    workspace: Workspace,
    path: str,
    kind: type[Numbered],
    after: int = 0,
    *,
    advice: str = "",
    all_of_them: bool = True,
) -> list[Numbered]:
    """Read the entries of a list after a number, in order.

    Parameters
    ----------
    after : int
        Entries up to this number are not read.
    advice : str
        What to do about a damaged entry.
    all_of_them : bool
        Whether a damaged entry is an error; otherwise it is left out, with a warning.

    Raises
    ------
    DamagedFileError
        If an entry is damaged, and `all_of_them` are needed.
    """
    entries = []
    for number in _numbers(workspace, path):
        if number > after:
            read = partial(read_record, workspace.folder, _file(path, number), kind, advice)
            entries.append(read() if all_of_them else unless_damaged(read))
    return [entry for entry in entries if entry is not None]


def read_last(
    workspace: Workspace, path: str, kind: type[Numbered], advice: str = ""
) -> Numbered | None:
    """Read the last entry of a list; None if it is empty. Raises `DamagedFileError`."""
    last = max(_numbers(workspace, path), default=None)
    if last is None:
        return None
    return read_record(workspace.folder, _file(path, last), kind, advice)


def add_numbered(workspace: Workspace, path: str, entry: Any) -> bool:
    """Add an entry; False if one of its number exists already."""
    return workspace.folder.create_json(_file(path, entry.number), asdict(entry))


def _file(path: str, number: int) -> str:
    return f"{path}/{number:05d}.json"


def _numbers(workspace: Workspace, path: str) -> list[int]:
    names = (name.removesuffix(".json") for name in workspace.folder.list(path))
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii())
