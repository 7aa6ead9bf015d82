"""Append-only lists: a small numbered JSON file for each entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from padim_dist.store.workspace import Workspace


def read_numbered(workspace: Workspace, path: str, after: int = 0) -> list[dict[str, Any]]:
    """Read the entries of a list after a number, in order."""
    numbers = [number for number in _numbers(workspace, path) if number > after]
    return [workspace.folder.read_json(f"{path}/{number:05d}.json") for number in numbers]


def read_last(workspace: Workspace, path: str) -> dict[str, Any] | None:
    """Read the last entry of a list; None if it is empty."""
    numbers = _numbers(workspace, path)
    return workspace.folder.read_json(f"{path}/{numbers[-1]:05d}.json") if numbers else None


def add_numbered(workspace: Workspace, path: str, number: int, entry: Mapping[str, Any]) -> bool:
    """Add an entry; False if one of this number exists already."""
    return workspace.folder.create_json(f"{path}/{number:05d}.json", entry)


def _numbers(workspace: Workspace, path: str) -> list[int]:
    names = (name.removesuffix(".json") for name in workspace.folder.list(path))
    return sorted(int(name) for name in names if name.isdigit())
