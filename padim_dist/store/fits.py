"""Fits: the settings and the parts of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class FitPart:
    """A part of a fit.

    Attributes
    ----------
    group : str
        The group.
    receipt : str
        Path of its receipt.
    manifest : str
        Id of the manifest with its shards.
    merged : bool
        True: its moments are merged; False: they are subtracted.
    """

    group: str
    receipt: str
    manifest: str
    merged: bool


@dataclass(frozen=True)
class FitHead:
    """A fit that was started: its settings, parts and start (ISO 8601, UTC)."""

    fit_id: str
    asked: Mapping[str, Any]
    parts: Sequence[FitPart]
    started_at: str


def put_fit(workspace: Workspace, head: FitHead) -> None:
    """Write the head of a fit, unless it exists."""
    workspace.folder.create_json(workspace.fit_head(head.fit_id), asdict(head))


def asked_of_fit(workspace: Workspace, fit_id: str) -> Mapping[str, Any] | None:
    """Return the settings with which a fit was started; None if there is no such fit."""
    values = workspace.folder.find_json(workspace.fit_head(fit_id))
    return values["asked"] if values else None
