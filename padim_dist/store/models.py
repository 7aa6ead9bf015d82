"""Models in Zarr: immutable, content-addressed, one Gaussian a group and patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr

from padim_dist.core.calibration import Calibration
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.gaussian import DenseView, Gaussian
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import Quality
from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.arrays import compressor, open_zarr_group
from padim_dist.store.calibrations import read_calibration
from padim_dist.store.moments import (
    Band,
    band_slice,
    block_name,
    blocks,
    mean_name,
    moments_arrays,
)
from padim_dist.store.workspace import Workspace, group_slug


@dataclass(frozen=True)
class ModelInfo:
    """What a model was made from and how: its Zarr attributes.

    Attributes
    ----------
    model_id, fit_id, snapshot : str
        Content addresses of the model, its moments, and the manifest it was fitted on.
    embedding : EmbeddingSpec
        How images are embedded.
    epsilon, sigma : float
        Regularisation, and the Gaussian filter of the anomaly map in pixels.
    shrinkage : str
        ``"none"``, or what takes epsilon's place.
    counts : mapping of str to int
        Normal images fitted, by group.
    settings : list of mapping
        The configurations that asked for it (sections archive and model): one, unless
        the same numbers were asked for in other words.
    created_at, asked_at : str
        When it was made, and when it was last asked for after another one: ISO 8601, UTC.
    versions : mapping of str to str
        Of the libraries that computed it.
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


def create_model(
    folder: Folder, path: str, shape: PyramidShape, groups: Sequence[str], band_cells: int
) -> None:
    """Create the empty arrays of a model, in their final shapes, a chunk a band."""
    root = open_zarr_group(folder, path, "a")
    for name in groups:
        slug = group_slug(name)
        if slug in root and root[slug].attrs.get("group") == name:
            continue
        group = root.create_group(slug, overwrite=True)
        for kind in ("moments", "gaussian"):
            arrays: list[tuple[str, int, tuple[int, ...]]]
            arrays = [(mean_name(a), a, shape.mean_shape(a)) for a in range(shape.levels)]
            for a, b in shape.pairs:
                block = {"moments": "scatter", "gaussian": "whiten" if a == b else "lower"}[kind]
                arrays.append((block_name(block, a, b), b, shape.block_shape(a, b)))
            if kind == "gaussian":
                arrays += _other_arrays(shape)
            inner = group.create_group(kind)
            for array, level, size in arrays:
                rows = band_cells * shape.ratio(level, shape.levels - 1)
                inner.create_array(
                    array,
                    shape=size,
                    dtype="float64" if kind == "moments" else "float32",
                    chunks=(min(rows, size[0]), *size[1:]),
                    compressors=compressor(),
                    fill_value=float("nan"),
                )
        group.attrs["group"] = name


def write_band(
    folder: Folder,
    path: str,
    group: str,
    shape: PyramidShape,
    band: Band,
    moments: Moments,
    gaussian: Gaussian,
    quality: Mapping[str, torch.Tensor],
) -> None:
    """Write a band of cells of one group: whole chunks, owned by the caller alone.

    `quality` has the arrays of `Quality` for the band.
    """
    root = open_zarr_group(folder, path, "r+")
    inner = _child(root, group_slug(group), "moments")
    inner.attrs["count"] = moments.count
    for name, level, data in moments_arrays(moments):
        _array(inner, name)[band_slice(shape, level, band)] = data.cpu().numpy()
    inner = _child(root, group_slug(group), "gaussian")
    others = {**quality, "kept": gaussian.kept}
    whiten = {(a, a): block for a, block in enumerate(gaussian.whiten)}
    for name, level, data in [
        *((mean_name(a), a, mean) for a, mean in enumerate(gaussian.mean)),
        *blocks("whiten", whiten),
        *blocks("lower", gaussian.lower),
        *((name, level, others[name]) for name, level, _ in _other_arrays(shape)),
    ]:
        _array(inner, name)[band_slice(shape, level, band)] = data.cpu().numpy()


def _other_arrays(shape: PyramidShape) -> list[tuple[str, int, tuple[int, ...]]]:
    """Name, level of axis 0 and shape of what a Gaussian has besides its factors."""
    coarsest = shape.levels - 1
    return [
        ("kept", coarsest, (shape.cells,)),
        ("diagonal", coarsest, (shape.cells,)),
        ("regularised", 0, (shape.positions[0],)),
        ("condition", coarsest, (shape.cells,)),
    ]


def finish_model(folder: Folder, path: str, info: ModelInfo) -> None:
    """Write the attributes: from here on the model exists."""
    values = {**vars(info), "embedding": info.embedding.to_dict()}
    open_zarr_group(folder, path, "r+").attrs.update({**values, "complete": True})


def read_info(folder: Folder, path: str) -> ModelInfo | None:
    """Attributes of a finished model, None where there is none."""
    try:
        attrs: dict[str, Any] = dict(open_zarr_group(folder, path, "r").attrs)
    except FileNotFoundError:
        return None
    if not attrs.pop("complete", False):
        return None
    return ModelInfo(**{**attrs, "embedding": EmbeddingSpec.from_dict(attrs["embedding"])})


def list_models(workspace: Workspace) -> list[ModelInfo]:
    """Finished models of a workspace, the one that was asked for last at the end."""
    names = [name for name in workspace.folder.list("models") if name.endswith(".zarr")]
    infos = [read_info(workspace.folder, f"models/{name}") for name in names]
    return sorted((info for info in infos if info), key=lambda info: info.asked_at)


def read_gaussian(folder: Folder, path: str, group: str, shape: PyramidShape) -> Gaussian:
    """Gaussian of a group, whole, on the CPU."""
    inner = _child(open_zarr_group(folder, path, "r"), group_slug(group), "gaussian")

    def read(name: str) -> torch.Tensor:
        return torch.from_numpy(_whole(_array(inner, name)))

    return Gaussian(
        mean=[read(mean_name(a)) for a in range(shape.levels)],
        whiten=[read(block_name("whiten", a, a)) for a in range(shape.levels)],
        lower={(a, b): read(block_name("lower", a, b)) for a, b in shape.pairs if a < b},
        kept=read("kept"),
    )


class Model:
    """A model of a workspace, opened for reading: numbers are read when asked for.

    Attributes
    ----------
    info : ModelInfo
        What it was made from and how.
    """

    def __init__(self, folder: Folder, path: str) -> None:
        info = read_info(folder, path)
        if info is None:
            raise RequestError(f"{folder.at(path)} is not a finished model; run fit (again)")
        self.info = info
        self._folder = folder
        self._path = path

    def __repr__(self) -> str:
        shape = self.info.embedding.shape
        grids = ", ".join(f"{h}x{w}" for h, w in shape.grids)
        return (
            f"Model({self.info.model_id}: {self.info.embedding.trunk.backbone}, "
            f"{shape.depth} channels on {grids}, images by group: {dict(self.info.counts)})"
        )

    @property
    def groups(self) -> list[str]:
        """Names of the groups."""
        return list(self.info.counts)

    def _group(self, group: str | None) -> str:
        """A group's name, which may be left out if there is but one."""
        if group is None and len(self.groups) == 1:
            group = self.groups[0]
        if group is None or group not in self.info.counts:
            shown = ", ".join(map(repr, self.groups[:8]))
            raise RequestError(f"the model has no group {group!r}; it has {shown}")
        return group

    def calibration(self, group: str | None = None) -> Calibration | None:
        """What normal images of a group score; None where the model was not calibrated."""
        kept = read_calibration(self._folder, self._path, self._group(group))
        return kept.calibration if kept else None

    def quality(self, group: str | None = None) -> Quality:
        """How well a group's images determine its Gaussian."""
        group = self._group(group)
        root = open_zarr_group(self._folder, self._path, "r")
        inner = _child(root, group_slug(group), "gaussian")
        shape = self.info.embedding.shape
        grids = {"regularised": 0, "condition": shape.levels - 1}
        maps = {
            name: shape.unnest(torch.from_numpy(_whole(_array(inner, name)))[:, None], level)[0]
            for name, level in grids.items()
        }
        return Quality(
            images=self.info.counts[group],
            depth=shape.depth,
            regularised=maps["regularised"].numpy(),
            condition=maps["condition"].numpy(),
        )

    def dense(self, group: str | None = None) -> DenseView:
        """The paper's dense Gaussian of a group (may be left out if there is but one)."""
        group = self._group(group)
        root = open_zarr_group(self._folder, self._path, "r")
        inner = _child(root, group_slug(group), "moments")
        factors = _child(root, group_slug(group), "gaussian")
        shape = self.info.embedding.shape
        return DenseView(
            shape=shape,
            count=self.info.counts[group],
            mean_arrays=[_array(inner, mean_name(a)) for a in range(shape.levels)],
            scatter_arrays={ab: _array(inner, block_name("scatter", *ab)) for ab in shape.pairs},
            kept=_array(factors, "kept"),
            diagonal=_array(factors, "diagonal"),
        )

    def mean(self, y: int, x: int, group: str | None = None) -> npt.NDArray[Any]:
        """Mean of the patch (y, x) in the paper's channel order, shape (d,)."""
        return self.dense(group).mean(y, x)

    def covariance(self, y: int, x: int, group: str | None = None) -> npt.NDArray[Any]:
        """Covariance of the patch (y, x) in the paper's channel order, shape (d, d)."""
        return self.dense(group).covariance(y, x)

    def gaussian(self, group: str) -> Gaussian:
        """The factorised Gaussian of a group."""
        return read_gaussian(self._folder, self._path, group, self.info.embedding.shape)


def _child(root: zarr.Group, *names: str) -> zarr.Group:
    for name in names:
        inner = root[name]
        assert isinstance(inner, zarr.Group)
        root = inner
    return root


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _whole(array: zarr.Array[Any]) -> npt.NDArray[Any]:
    data: Any = array[...]
    return np.asarray(data)
