"""Fits and models: the settings and inputs of each. `store/gaussians.py` reads the arrays.

Attributes are read without Zarr and torch, so that commands that compute nothing start quickly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from padim_dist.core.spec import EmbeddingSpec
from padim_dist.store.arrays import open_zarr_group
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class FitPart:
    """A part of a fit, with its receipt's path and manifest; merged, or otherwise subtracted."""

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
    workspace.folder.create_json(f"{workspace.fit(head.fit_id)}/fit.json", asdict(head))


def asked_of_fit(workspace: Workspace, fit_id: str) -> Mapping[str, Any] | None:
    """Return the settings with which a fit was started; None if there is no such fit."""
    values = workspace.folder.find_json(f"{workspace.fit(fit_id)}/fit.json")
    return values["asked"] if values else None


@dataclass(frozen=True)
class ModelInfo:
    """Settings and inputs of a model: its Zarr attributes.

    Attributes
    ----------
    model_id, fit_id, snapshot : str
        Ids of the model, its fit, and the manifest that it was fitted on.
    embedding : EmbeddingSpec
        How images are embedded.
    epsilon, sigma, shrinkage : float, float, str
        Regularisation, and the standard deviation of the anomaly map's filter in pixels;
        ``"none"``, or the shrinkage that replaces `epsilon`.
    counts : mapping of str to int
        Fitted normal images, by group.
    settings : sequence of mapping
        Sections archive and model of its configuration: several if different ones gave it.
    created_at, asked_at : str
        When it was made, and when it last became the newest model: ISO 8601, UTC.
    versions : mapping of str to str
        Versions of the libraries that computed it.
    """

    model_id: str
    fit_id: str
    snapshot: str
    embedding: EmbeddingSpec
    epsilon: float
    shrinkage: str
    sigma: float
    counts: Mapping[str, int]
    settings: Sequence[Mapping[str, Any]]
    created_at: str
    asked_at: str
    versions: Mapping[str, str]


def finish_model(workspace: Workspace, info: ModelInfo) -> None:
    """Write the attributes: from now on the model exists."""
    values = vars(info) | {"embedding": info.embedding.to_dict(), "complete": True}
    open_zarr_group(workspace, workspace.model(info.model_id), "r+").attrs.update(values)


def find_model(workspace: Workspace, model_id: str) -> ModelInfo | None:
    """Return the attributes of a finished model; None if there is none."""
    metadata = workspace.folder.find_json(f"{workspace.model(model_id)}/zarr.json")
    attrs: dict[str, Any] = (metadata or {}).get("attributes", {})
    if not attrs.pop("complete", False):
        return None
    return ModelInfo(**{**attrs, "embedding": EmbeddingSpec.from_dict(attrs["embedding"])})


def list_models(workspace: Workspace) -> list[ModelInfo]:
    """Return the finished models of a workspace, the newest (by `asked_at`) last."""
    names = [name for name in workspace.folder.list(workspace.models) if name.endswith(".zarr")]
    infos = (find_model(workspace, name.removesuffix(".zarr")) for name in names)
    return sorted(filter(None, infos), key=lambda info: info.asked_at)
