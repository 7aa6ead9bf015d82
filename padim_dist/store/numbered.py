"""Numbered files: a list that only grows, made of one small JSON file an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from padim_dist.store.workspace import Workspace


def read_numbered(workspace: Workspace, path: str, after: int = 0) -> list[dict[str, Any]]:
    """Entries of a list whose number is higher, in order."""
    numbers = [number for number in _numbers(workspace, path) if number > after]
    return [workspace.folder.read_json(f"{path}/{number:05d}.json") for number in numbers]


def read_last(workspace: Workspace, path: str) -> dict[str, Any] | None:
    """The last entry of a list; None where it is empty."""
    numbers = _numbers(workspace, path)
    return workspace.folder.read_json(f"{path}/{numbers[-1]:05d}.json") if numbers else None


def add_numbered(workspace: Workspace, path: str, number: int, entry: Mapping[str, Any]) -> bool:
    """Add an entry; False if somebody else was faster to make one of this number."""
    return workspace.folder.create_json(f"{path}/{number:05d}.json", entry)


def _numbers(workspace: Workspace, path: str) -> list[int]:
    names = (name.removesuffix(".json") for name in workspace.folder.list(path))
    return sorted(int(name) for name in names if name.isdigit())
