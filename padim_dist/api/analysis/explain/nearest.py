"""The normal image behind a model that is most similar to an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from padim_dist.api.settings.aligned import aligning_of
from padim_dist.api.settings.moved import move_since_id
from padim_dist.api.settings.places import archive_of, workspace_of
from padim_dist.api.settings.plans import reader_of
from padim_dist.api.sql.tables import image_name
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config
from padim_dist.core.align.pictures import between
from padim_dist.core.embedding import similarities
from padim_dist.store.manifests import find_images, read_shard
from padim_dist.store.models import ModelInfo, find_fit
from padim_dist.store.normals import read_normals
from padim_dist.store.parts.receipt import KeptPart
from padim_dist.store.parts.sample import SampleReader
from padim_dist.store.records import find_record, unless_damaged
from padim_dist.store.runs.rows import ScoreRow
from padim_dist.store.workspace import Workspace

_MOST = 1024
"""Normal images that are compared; 0.3 MB each with ResNet-18 and 100 channels."""
_BATCH = 32
_BEYOND = (225, 225, 225)
"""Colour of what is beyond the edges of an image that is turned or shifted."""


@dataclass(frozen=True)
class NormalImage:
    """A normal image that the model was fitted on.

    Attributes
    ----------
    image_id, image : str, str or None
        Its id and its path in the archive; None if its manifest is gone.
    similarity : float
        Mean cosine of the embeddings, at most 1; see `padim_dist.core.embedding.similarities`.
    compared : int
        Normal images that were compared: those whose embeddings the fit kept (``fit.sample``).
    """

    image_id: str
    image: str | None
    similarity: float
    compared: int


@dataclass(frozen=True)
class Found:
    """A normal image, its manifest row, and the manifest; both None if that is gone."""

    normal: NormalImage
    row: ImageRow | None
    snapshot: str | None


@dataclass(frozen=True)
class _Candidate:
    """A part of a fit with the images of its sample that are compared, by place."""

    reader: SampleReader
    places: list[int]
    manifest: str


def find_nearest(
    config: Config,
    workspace: Workspace,
    info: ModelInfo,
    group: str,
    levels: Sequence[Tensor],
    without: str,
) -> Found | None:
    """Return the most similar normal image of a group, from the embeddings that its fit kept.

    Parameters
    ----------
    config, workspace, info : Config, Workspace, ModelInfo
        Where the archive is, the workspace, and the model.
    group : str
        Group of the image.
    levels : sequence of Tensor
        Level matrices (G_a, d_a, 1) of the image.
    without : str
        Id of the image itself: the model may have been fitted on it.

    Returns
    -------
    Found or None
        None if no embeddings are kept: ``fit.sample`` was 0, or the moments were removed.
    """
    candidates = _thinned(_candidates(workspace, info, group, without), _MOST)
    best: tuple[float, str, str] | None = None
    for candidate in candidates:
        for start in range(0, len(candidate.places), _BATCH):
            places = candidate.places[start : start + _BATCH]
            similar = similarities(levels, candidate.reader.read(places))
            value, at = (found.item() for found in torch.max(similar, dim=0))
            if best is None or value > best[0]:
                image_id = candidate.reader.image_ids[places[int(at)]]
                best = value, image_id, candidate.manifest
    if best is None:
        return None
    similarity, image_id, manifest = best
    row = _find_row(workspace, manifest, image_id)
    name = image_name(archive_of(config).url, row.uri, row.member) if row else None
    compared = sum(len(candidate.places) for candidate in candidates)
    normal = NormalImage(image_id, name, similarity, compared)
    return Found(normal, row, manifest if row else None)


def load_normal(
    config: Config, info: ModelInfo, found: Found, other: ScoreRow
) -> npt.NDArray[np.uint8]:
    """Load a normal image: uint8, (height, width, 3).

    It has its original size, unless images are aligned: then it is drawn as the other one lies, at
    the size of that, so that places in both are the same.

    Raises
    ------
    ImageError, RunError, DamagedFileError
        If it, or the reference of its group, cannot be read any more.
    """
    assert found.row is not None
    assert found.snapshot is not None
    reader = reader_of(config, info.embedding, move_since_id(config, found.snapshot))
    pixels = reader.load_original(found.row).permute(1, 2, 0).numpy()
    group = str(found.row.group)
    if info.embedding.align is None or group not in info.references:
        return pixels
    loaded = aligning_of(reader, workspace_of(config), info, group).load(found.row)
    motion = loaded.alignment.motion if loaded.alignment else None
    own, others = (pixels.shape[0], pixels.shape[1]), other.size
    places = between(info.embedding.geometry, (motion, own), (other.motion, others))
    (a, b, c), (d, e, f) = places.tolist()  # y and x; Pillow has x first
    drawn = Image.fromarray(pixels).transform(
        others[::-1],
        Image.Transform.AFFINE,
        (e, d, f, b, a, c),
        Image.Resampling.BICUBIC,
        fillcolor=_BEYOND,
    )
    return np.asarray(drawn)


def _candidates(
    workspace: Workspace, info: ModelInfo, group: str, without: str
) -> list[_Candidate]:
    """Return the samples of the group's parts, without images that were taken out again."""
    head = find_fit(workspace, info.fit_id)
    shape = info.embedding_of(group).shape
    samples: list[tuple[SampleReader, str]] = []
    taken_out = {without}
    for part in head.parts if head else ():
        receipt = _receipt(workspace, part.receipt) if part.group == group else None
        if receipt is None or not receipt.sampled or not workspace.folder.exists(receipt.moments):
            continue
        reader = SampleReader(workspace, receipt.moments, shape)
        if part.merged:
            samples.append((reader, part.manifest))
        else:
            taken_out.update(reader.image_ids)
    fitted = _fitted(workspace, info, group)

    def is_compared(name: str) -> bool:
        return name not in taken_out and (fitted is None or name in fitted)

    return [
        _Candidate(reader, places, manifest)
        for reader, manifest in samples
        if (places := [i for i, name in enumerate(reader.image_ids) if is_compared(name)])
    ]


def _fitted(workspace: Workspace, info: ModelInfo, group: str) -> set[str] | None:
    """Return the ids of the images in the model; None for models of version 0.3 and earlier."""
    if info.suspects is None:
        return None
    rows = read_normals(workspace, info.model_id, group, ["image_id", "dropped"])
    return set(rows.filter(pc.invert(rows["dropped"]))["image_id"].to_pylist())


def _receipt(workspace: Workspace, path: str) -> KeptPart | None:
    return unless_damaged(lambda: find_record(workspace.folder, path, KeptPart))


def _thinned(candidates: list[_Candidate], most: int) -> list[_Candidate]:
    """Thin candidates evenly, so that at most about `most` images are compared."""
    step = -(-sum(len(candidate.places) for candidate in candidates) // most)
    if step <= 1:
        return candidates
    return [_Candidate(c.reader, c.places[::step], c.manifest) for c in candidates]


def _find_row(workspace: Workspace, manifest: str, image_id: str) -> ImageRow | None:
    """Return the manifest row of an image; None if its manifest is gone."""
    if not workspace.folder.exists(workspace.manifest(manifest)):
        return None
    for shard in find_images(workspace, manifest, [image_id]):
        for row in to_rows(read_shard(workspace, manifest, shard)):
            if row.image_id == image_id:
                return row
    return None
