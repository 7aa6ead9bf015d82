"""Append-only lists: a small numbered JSON file for each entry, a dataclass with a `number`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, TypeVar

from padim_dist.store.workspace import Workspace

Numbered = TypeVar("Numbered")


def read_numbered(
    workspace: Workspace, path: str, kind: type[Numbered], after: int = 0
) -> list[Numbered]:
    """Read the entries of a list after a number, in order."""
    numbers = [number for number in _numbers(workspace, path) if number > after]
    return [kind(**workspace.folder.read_json(_file(path, number))) for number in numbers]


def read_last(workspace: Workspace, path: str, kind: type[Numbered]) -> Numbered | None:
    """Read the last entry of a list; None if it is empty."""
    last = max(_numbers(workspace, path), default=None)
    return None if last is None else kind(**workspace.folder.read_json(_file(path, last)))


def add_numbered(workspace: Workspace, path: str, entry: Any) -> bool:
    """Add an entry; False if one of its number exists already."""
    return workspace.folder.create_json(_file(path, entry.number), asdict(entry))


def _file(path: str, number: int) -> str:
    return f"{path}/{number:05d}.json"


def _numbers(workspace: Workspace, path: str) -> list[int]:
    names = (name.removesuffix(".json") for name in workspace.folder.list(path))
    return sorted(int(name) for name in names if name.isdigit())
