"""Fits and models: the settings and inputs of each. `store/gaussians.py` reads the arrays.

Attributes are read without Zarr and torch, so that commands that compute nothing start quickly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from padim_dist.core.align.position import Position
from padim_dist.core.roi.groups import embedding_of, largest_embedding
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.errors import DamagedFileError
from padim_dist.store.arrays import open_zarr_group, put_attributes
from padim_dist.store.order import in_order, next_turn
from padim_dist.store.records import (
    checked,
    find_record,
    make_record,
    unless_damaged,
)
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


def find_fit(workspace: Workspace, fit_id: str) -> FitHead | None:
    """Return the head of a fit; None if there is no such fit."""
    path = f"{workspace.fit(fit_id)}/fit.json"
    advice = "Remove it and run 'padim-dist fit' without --resume: what is embedded is kept"
    return find_record(workspace.folder, path, FitHead, advice)


def asked_of_fit(workspace: Workspace, fit_id: str) -> Mapping[str, Any] | None:
    """Return the settings with which a fit was started; None if there is no such fit."""
    head = find_fit(workspace, fit_id)
    return head.asked if head else None


def manifests_of_fit(workspace: Workspace, fit_id: str) -> list[str]:
    """Return the ids of the manifests of a fit's parts; none if the head of the fit is gone."""
    head = find_fit(workspace, fit_id)
    return sorted({part.manifest for part in head.parts}) if head else []


@dataclass(frozen=True)
class ModelInfo:
    """Settings and inputs of a model: its Zarr attributes.

    Attributes
    ----------
    model_id, fit_id, snapshot : str
        Ids of the model, its fit, and the manifest that it was fitted on.
    embedding : EmbeddingSpec
        How images are embedded; the whole of them.
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
    turn : int
        Its place among the models; see `padim_dist.store.order`.
    suspects : mapping of str to int, or None
        Fitted images that all others find anomalous, in groups that have any. None for models of
        version 0.3 and earlier, which have no tables of their normal images (`store/normals.py`).
    calibrated : mapping of str to int
        Images with a leave-one-out score, by group; empty for models of version 0.3 and earlier.
    dropped : mapping of str to int
        Images that were dropped as suspects, in groups that lost any.
    references : mapping of str to str
        Content addresses of the pictures that images are aligned with, by group; empty if images
        are not aligned.
    positions : mapping of str to Position
        How the images lay before they were aligned, by group: those that the fit read, also those
        that were taken out again.
    inside : mapping of str to sequence of int
        Region of interest of each group that has one, as in `PyramidShape`.
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
    turn: int = 0
    suspects: Mapping[str, int] | None = None
    calibrated: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, Position] = field(default_factory=dict)
    inside: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def embedding_of(self, group: str | None) -> EmbeddingSpec:
        """Return the embedding of a group: that of its region of interest, if it has one."""
        return embedding_of(self.embedding, self.inside, group)

    @property
    def largest(self) -> EmbeddingSpec:
        """The embedding of the group that needs the most memory."""
        return largest_embedding(self.embedding, self.inside, self.counts)


def model_advice(workspace: Workspace, model_id: str) -> str:
    """Return what to do about a damaged file of a model."""
    return (
        f"Remove {workspace.at(workspace.model(model_id))} and run 'padim-dist fit' with the "
        "model's settings: it makes the same model again, and embeds no image that it has embedded"
    )


def finish_model(workspace: Workspace, info: ModelInfo) -> None:
    """Write the attributes: from now on the model exists, and is the newest."""
    info = replace(info, turn=next_turn(list_models(workspace)))
    values = vars(info) | {"embedding": info.embedding.to_dict(), "complete": True}
    if info.embedding.align is None:  # as versions before it wrote
        del values["references"], values["positions"]
    else:
        values["positions"] = {group: asdict(one) for group, one in info.positions.items()}
    if not info.inside:  # as versions before it wrote
        del values["inside"]
    group = open_zarr_group(workspace, workspace.model(info.model_id), "r+")
    put_attributes(group, values)


def find_model(workspace: Workspace, model_id: str) -> ModelInfo | None:
    """Return the attributes of a finished model; None if there is none.

    Raises
    ------
    DamagedFileError
        If they are damaged, or do not match their checksum.
    """
    path = f"{workspace.model(model_id)}/zarr.json"
    url, advice = workspace.at(path), model_advice(workspace, model_id)
    try:
        metadata = workspace.folder.find_json(path)
        attributes = {} if metadata is None else metadata.get("attributes", {})
        if not isinstance(attributes, dict):
            raise DamagedFileError(url, "its attributes are no object")
        if metadata == {} or (metadata and metadata.get("node_type") != "group"):
            raise DamagedFileError(url, "it is no Zarr group")
        if not attributes.get("complete", False):
            return None
        values = checked(attributes, url)
        return make_record(ModelInfo, {**values, "embedding": _embedding(values, url)}, url)
    except DamagedFileError as error:
        raise error.advised(advice) from None


def list_models(workspace: Workspace) -> list[ModelInfo]:
    """Return the finished models, the newest last; damaged ones are left out, with a warning."""
    names = [name for name in workspace.folder.list(workspace.models) if name.endswith(".zarr")]
    reads = (partial(find_model, workspace, name.removesuffix(".zarr")) for name in names)
    return in_order(filter(None, map(unless_damaged, reads)), lambda info: info.asked_at)


def _embedding(values: Mapping[str, Any], url: str) -> EmbeddingSpec:
    # Unlike other fields, an unknown one here is refused: it may change the embeddings.
    try:
        return EmbeddingSpec.from_dict(values["embedding"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"embedding: {type(error).__name__}: {error}"
        raise DamagedFileError(url, what) from None
