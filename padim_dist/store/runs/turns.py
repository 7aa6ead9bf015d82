"""The turns of runs: a numbered file for each; only the newest files are kept.

So the newest turn, and the runs since one, are known without reading the heads of all runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from padim_dist.store.numbered import (
    append_numbered,
    list_numbers,
    numbered_file,
    read_numbered,
)
from padim_dist.store.workspace import Workspace

_KEPT = 64
_ADVICE = "Remove the folder of this file: the next run makes it again"


@dataclass(frozen=True)
class Turn:
    """A turn, from 1, and the run that has it."""

    number: int
    run_id: str


def claim_turn(workspace: Workspace, run_id: str, highest: Callable[[], int]) -> int:
    """Return a turn for the run that becomes the newest: no other run gets it.

    `highest` returns the highest turn of all runs, for workspaces of versions without these files.
    """
    path = workspace.turns
    numbers = list_numbers(workspace, path)
    least = 0 if numbers else highest()
    turn = append_numbered(workspace, path, lambda number: Turn(max(number, least + 1), run_id))
    for number in numbers[:-_KEPT]:
        workspace.folder.remove(numbered_file(path, number))
    return turn.number


def newest_turn(workspace: Workspace) -> int | None:
    """Return the highest turn that a run has; None if an earlier version made all runs."""
    return max(list_numbers(workspace, workspace.turns), default=None)


def runs_since(workspace: Workspace, turn: int) -> list[str] | None:
    """Return the runs that became the newest after a turn; None if that is too long ago."""
    if min(list_numbers(workspace, workspace.turns), default=turn + 2) > turn + 1:
        return None
    found = read_numbered(workspace, workspace.turns, Turn, turn, advice=_ADVICE)
    return list(dict.fromkeys(one.run_id for one in found))
