"""Gaussians and moments of a model in Zarr: one Gaussian per group and patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from padim_dist.core.calibration import Calibration
from padim_dist.core.gaussian import DenseView, Gaussian
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import Quality
from padim_dist.errors import DamagedFileError, RequestError
from padim_dist.store.arrays import (
    Mode,
    child_array,
    create_array,
    open_zarr_group,
    put_attributes,
    reports_array_damage,
)
from padim_dist.store.calibrations import read_calibration
from padim_dist.store.models import find_model, model_advice
from padim_dist.store.parts.moments import (
    Band,
    band_slice,
    blocks,
    moments_arrays,
    moments_shapes,
)
from padim_dist.store.workspace import Workspace, group_slug


@dataclass(frozen=True)
class FactorisedBand:
    """A band of coarsest cells of a group: moments, Gaussian, and arrays for `Quality`."""

    band: Band
    moments: Moments
    gaussian: Gaussian
    quality: Mapping[str, torch.Tensor]


def create_model(
    workspace: Workspace,
    model_id: str,
    shape: PyramidShape,
    groups: Sequence[str],
    band_cells: int,
) -> None:
    """Create the empty arrays of a model in their final shapes, a chunk for each band."""
    root = open_zarr_group(workspace, workspace.model(model_id), "a")
    for name in groups:
        slug = group_slug(name)
        if slug in root and root[slug].attrs.get("group") == name:
            continue
        group = root.create_group(slug, overwrite=True)
        for kind, dtype, arrays in (
            ("moments", "float64", moments_shapes(shape)),
            ("gaussian", "float32", _gaussian_shapes(shape)),
        ):
            inner = group.create_group(kind)
            for array, level, size in arrays:
                rows = min(band_cells * shape.ratio(level, shape.levels - 1), size[0])
                create_array(inner, array, size, dtype, chunks=(rows, *size[1:]))
        group.attrs["group"] = name


def write_band(
    workspace: Workspace, model_id: str, group: str, shape: PyramidShape, made: FactorisedBand
) -> None:
    """Write a band of cells of a group: whole chunks, which no other task writes."""
    others = {**made.quality, "kept": made.gaussian.kept}
    whiten = {(a, a): block for a, block in enumerate(made.gaussian.whiten)}
    arrays = {
        "moments": moments_arrays(made.moments),
        "gaussian": [
            *((f"mean_{a}", a, mean) for a, mean in enumerate(made.gaussian.mean)),
            *blocks("whiten", whiten),
            *blocks("lower", made.gaussian.lower),
            *((name, level, others[name]) for name, level, _ in _other_arrays(shape)),
        ],
    }
    for kind, named in arrays.items():
        inner = _open(workspace, model_id, group, kind, "r+")
        if kind == "moments":
            put_attributes(inner, {"count": made.moments.count})
        for name, level, data in named:
            child_array(inner, name)[band_slice(shape, level, made.band)] = data.cpu().numpy()


def _gaussian_shapes(shape: PyramidShape) -> list[tuple[str, int, tuple[int, ...]]]:
    """Name, level of axis 0 and shape of each array of a Gaussian."""
    means = [(f"mean_{a}", a, shape.mean_shape(a)) for a in range(shape.levels)]
    factors = [
        (f"{'whiten' if a == b else 'lower'}_{a}_{b}", b, shape.block_shape(a, b))
        for a, b in shape.pairs
    ]
    return [*means, *factors, *_other_arrays(shape)]


def _other_arrays(shape: PyramidShape) -> list[tuple[str, int, tuple[int, ...]]]:
    """Name, level of axis 0 and shape of a Gaussian's arrays other than means and factors."""
    coarsest = shape.levels - 1
    cells = [(name, coarsest, (shape.cells,)) for name in ("kept", "diagonal", "condition")]
    return [*cells, ("regularised", 0, (shape.positions[0],))]


def read_gaussian(workspace: Workspace, model_id: str, group: str, shape: PyramidShape) -> Gaussian:
    """Read the whole Gaussian of a group, on the CPU.

    Raises
    ------
    DamagedFileError
        If it is damaged: a checksum does not match, or something is missing.
    """
    file = workspace.at(f"{workspace.model_group(model_id, group)}/gaussian")
    with reports_array_damage(file, model_advice(workspace, model_id)):
        inner = _open(workspace, model_id, group, "gaussian")

        def read(name: str, size: tuple[int, ...]) -> torch.Tensor:
            data = _read(inner, name)
            if data.shape != size or data.dtype != torch.float32:
                raise DamagedFileError(file, f"{name} has the shape {tuple(data.shape)}")
            if not bool(data.sum().isfinite()):  # where a chunk is missing there is no number
                raise DamagedFileError(file, f"{name} has values that are no number")
            return data

        levels = range(shape.levels)
        return Gaussian(
            mean=[read(f"mean_{a}", shape.mean_shape(a)) for a in levels],
            whiten=[read(f"whiten_{a}_{a}", shape.block_shape(a, a)) for a in levels],
            lower={
                (a, b): read(f"lower_{a}_{b}", shape.block_shape(a, b))
                for a, b in shape.pairs
                if a < b
            },
            kept=read("kept", (shape.cells,)),
        )


class Model:
    """A finished model, read-only. Arrays are read when they are needed.

    Attributes
    ----------
    info : ModelInfo
        Settings, embedding and image counts.
    """

    def __init__(self, workspace: Workspace, model_id: str) -> None:
        info = find_model(workspace, model_id)
        if info is None:
            url = workspace.at(workspace.model(model_id))
            raise RequestError(f"{url} is not a finished model; run 'padim-dist fit'")
        self.info = info
        self._workspace = workspace

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
        """Return the group, by default the only one."""
        if group is None and len(self.groups) == 1:
            group = self.groups[0]
        if group is None or group not in self.info.counts:
            shown = ", ".join(map(repr, self.groups[:8]))
            raise RequestError(f"the model has no group {group!r}; it has {shown}")
        return group

    def calibration(self, group: str | None = None) -> Calibration | None:
        """Return leave-one-out results of a group; None if the model has no calibration."""
        kept = read_calibration(self._workspace, self.info.model_id, self._group(group))
        return kept.calibration if kept else None

    def quality(self, group: str | None = None) -> Quality:
        """Return how well a group's images determine its Gaussian."""
        group = self._group(group)
        shape = self.info.embedding_of(group).shape
        file = self._workspace.at(self._workspace.model_group(self.info.model_id, group))

        def grid(name: str, level: int) -> npt.NDArray[Any]:
            return shape.unnest(_read(inner, name)[:, None], level)[0].numpy()

        with reports_array_damage(file, model_advice(self._workspace, self.info.model_id)):
            inner = _open(self._workspace, self.info.model_id, group, "gaussian")
            return Quality(
                images=self.info.counts[group],
                depth=shape.depth,
                regularised=grid("regularised", 0),
                condition=grid("condition", shape.levels - 1),
            )

    def dense(self, group: str | None = None) -> DenseView:
        """Return the paper's dense Gaussian of a group, by default of the only one."""
        group = self._group(group)
        shape = self.info.embedding_of(group).shape
        file = self._workspace.at(self._workspace.model_group(self.info.model_id, group))
        advice = model_advice(self._workspace, self.info.model_id)
        with reports_array_damage(file, advice):
            moments = _open(self._workspace, self.info.model_id, group, "moments")
            factors = _open(self._workspace, self.info.model_id, group, "gaussian")

            def array(inner: Any, name: str) -> _Rows:
                return _Rows(child_array(inner, name), f"{file}/{inner.basename}", advice)

            return DenseView(
                shape=shape,
                count=self.info.counts[group],
                mean_arrays=[array(moments, f"mean_{a}") for a in range(shape.levels)],
                scatter_arrays={(a, b): array(moments, f"scatter_{a}_{b}") for a, b in shape.pairs},
                kept=array(factors, "kept"),
                diagonal=array(factors, "diagonal"),
            )

    def mean(self, y: int, x: int, group: str | None = None) -> npt.NDArray[Any]:
        """Return the mean of the patch (y, x) in the paper's channel order, shape (d,)."""
        return self.dense(group).mean(y, x)

    def covariance(self, y: int, x: int, group: str | None = None) -> npt.NDArray[Any]:
        """Return the covariance of the patch (y, x) in the paper's channel order, shape (d, d)."""
        return self.dense(group).covariance(y, x)

    def gaussian(self, group: str) -> Gaussian:
        """Return the factorised Gaussian of a group."""
        shape = self.info.embedding_of(group).shape
        return read_gaussian(self._workspace, self.info.model_id, group, shape)


@dataclass(frozen=True)
class _Rows:
    """An array whose rows are read on demand; damage is an error that names the model."""

    array: Any
    file: str
    advice: str

    def __getitem__(self, row: int) -> Any:
        with reports_array_damage(self.file, self.advice):
            rows = self.array[row]
            if not np.isfinite(rows).all():
                raise DamagedFileError(self.file, "it has values that are no number")
            return rows


def _open(workspace: Workspace, model_id: str, group: str, kind: str, mode: Mode = "r") -> Any:
    return open_zarr_group(workspace, f"{workspace.model_group(model_id, group)}/{kind}", mode)


def _read(group: Any, name: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(child_array(group, name)[...]))
