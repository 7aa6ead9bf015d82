"""Models: the settings and inputs of each. `store/gaussians.py` reads their arrays.

The attributes of a Zarr group are a JSON file. It is read here without Zarr and torch, so that
commands that compute nothing start quickly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from padim_dist.core.spec import EmbeddingSpec
from padim_dist.store.arrays import open_zarr_group
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class ModelInfo:
    """Settings and inputs of a model: its Zarr attributes.

    Attributes
    ----------
    model_id, fit_id, snapshot : str
        Ids of the model, its fit, and the manifest that it was fitted on.
    embedding : EmbeddingSpec
        How images are embedded.
    epsilon, sigma : float
        Regularisation, and the standard deviation of the anomaly map's filter in pixels.
    shrinkage : str
        ``"none"``, or the shrinkage that replaces `epsilon`.
    counts : mapping of str to int
        Fitted normal images, by group.
    settings : list of mapping
        Configurations (sections archive and model) that led to it: several if different
        settings gave the same model.
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
    values = {**vars(info), "embedding": info.embedding.to_dict()}
    group = open_zarr_group(workspace, workspace.model(info.model_id), "r+")
    group.attrs.update({**values, "complete": True})


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
    infos = [find_model(workspace, name.removesuffix(".zarr")) for name in names]
    return sorted((info for info in infos if info), key=lambda info: info.asked_at)
