"""Append-only lists: a small numbered JSON file for each entry, a dataclass with a `number`."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from padim_dist.store.records import read_record, unless_damaged
from padim_dist.store.workspace import Workspace

Numbered = TypeVar("Numbered")
_THREADS = 16


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

    def read(number: int) -> Numbered | None:
        file = numbered_file(path, number)
        one = partial(read_record, workspace.folder, file, kind, advice)
        return one() if all_of_them else unless_damaged(one)

    numbers = [number for number in list_numbers(workspace, path) if number > after]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [entry for entry in pool.map(read, numbers) if entry is not None]


def read_last(
    workspace: Workspace, path: str, kind: type[Numbered], advice: str = ""
) -> Numbered | None:
    """Read the last entry of a list; None if it is empty. Raises `DamagedFileError`."""
    last = max(list_numbers(workspace, path), default=None)
    if last is None:
        return None
    return read_record(workspace.folder, numbered_file(path, last), kind, advice)


def add_numbered(workspace: Workspace, path: str, entry: Any) -> bool:
    """Add an entry; False if one of its number exists already."""
    return workspace.folder.create_json(numbered_file(path, entry.number), asdict(entry))


def append_numbered(workspace: Workspace, path: str, make: Callable[[int], Numbered]) -> Numbered:
    """Add the entry that `make` returns for the next free number; of two at once, both are kept.

    A store whose answer was lost refuses the second try: the entry that is there is then this one.
    """
    while True:
        entry = make(max(list_numbers(workspace, path), default=0) + 1)
        if add_numbered(workspace, path, entry) or _is_there(workspace, path, entry):
            return entry


def _is_there(workspace: Workspace, path: str, entry: Any) -> bool:
    there = workspace.folder.find_json(numbered_file(path, entry.number))
    return bool(there == json.loads(json.dumps(asdict(entry))))


def numbered_file(path: str, number: int, prefix: str = "") -> str:
    """Return the path of an entry; `prefix` begins the names of all files of the list."""
    return f"{path}/{prefix}{number:05d}.json"


def list_numbers(workspace: Workspace, path: str, prefix: str = "") -> list[int]:
    """Return the numbers of the entries of a list, in order."""
    names = (name.removesuffix(".json") for name in workspace.folder.list(path))
    found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(int(number) for number in found if number.isdecimal() and number.isascii())
