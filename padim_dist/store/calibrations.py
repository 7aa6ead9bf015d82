"""Leave-one-out results: of each part, temporary, and of each group, its calibration.

Those of a part are a NumPy file, its own receipt; all are removed once the model is calibrated.
A calibration is a Zarr group in the model.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.calibration import Calibration
from padim_dist.core.drift import Noise
from padim_dist.errors import DamagedFileError
from padim_dist.store.arrays import (
    child_array,
    compressors,
    open_zarr_group,
    put_attributes,
    read_attributes,
    reports_array_damage,
)
from padim_dist.store.models import model_advice
from padim_dist.store.records import make_record
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class LeftOut:
    """Leave-one-out results of a part's sampled images.

    Attributes
    ----------
    image_ids : array
        Ids of the images, ASCII, shape (n,).
    scores : array
        Their scores, float64, shape (n,).
    highest : array
        Highest values of their anomaly maps, float32, unordered: all that can be a threshold.
    pixels, decisive : int
        Values in their anomaly maps, and how many of the highest of all parts can be one.
    squares : array
        Sum of squared distances at each patch, float64, shape (G_0,), in nested order.
    whitened : list of array
        Whitened embeddings z[a] of a few of them, float32, shape (G_a, d_a, m).
    scales : array
        Factors by which their distances grow when they are left out, float32, shape (G_0, m).
    """

    image_ids: npt.NDArray[np.bytes_]
    scores: npt.NDArray[np.float64]
    highest: npt.NDArray[np.float32]
    pixels: int
    decisive: int
    squares: npt.NDArray[np.float64]
    whitened: list[npt.NDArray[np.float32]]
    scales: npt.NDArray[np.float32]

    def by_image(self) -> dict[str, float]:
        """Return the score of each image."""
        names = [name.decode() for name in self.image_ids.tolist()]
        return dict(zip(names, self.scores.tolist(), strict=True))


def write_left_out(workspace: Workspace, path: str, part: LeftOut) -> None:
    """Write the results of a part, unless a duplicate of the task has already written the same."""
    arrays: dict[str, Any] = dict(vars(part))
    levels = arrays.pop("whitened")
    sink = io.BytesIO()
    np.savez(sink, **arrays, **{f"whitened_{a}": level for a, level in enumerate(levels)})
    workspace.folder.create(path, sink.getvalue())


def read_left_out(workspace: Workspace, path: str) -> LeftOut:
    """Read the results of a part.

    Raises
    ------
    DamagedFileError
        If they are damaged; the checksums of the ZIP file find a changed bit.
    """
    advice = "Remove it and run 'padim-dist fit' again: it computes only this file again"
    data = workspace.folder.read(path)
    with reports_array_damage(workspace.at(path), advice), np.load(io.BytesIO(data)) as file:
        values: dict[str, Any] = dict(file)
        if "image_ids" not in values:
            raise DamagedFileError(workspace.at(path), "an earlier version wrote it", advice)
        levels = sum(name.startswith("whitened_") for name in values)
        whitened = [values.pop(f"whitened_{a}") for a in range(levels)]
        values |= {name: int(values[name]) for name in ("pixels", "decisive")}
        return LeftOut(whitened=whitened, **values)


@dataclass(frozen=True)
class KeptCalibration:
    """Leave-one-out results of a group's normal images, as stored in the model.

    Attributes
    ----------
    calibration : Calibration
        Image scores and pixel thresholds.
    usual : array
        Mean squared distance of a left-out image at each patch, float32, shape (G_0,), in nested
        order.
    noise : Noise or None
        Sampling noise of the group's mean; None if there are too few images.
    """

    calibration: Calibration
    usual: npt.NDArray[np.float32]
    noise: Noise | None


def write_calibration(
    workspace: Workspace, model_id: str, group: str, kept: KeptCalibration
) -> None:
    """Write the calibration of a group into a model."""
    root = open_zarr_group(workspace, workspace.model_group(model_id, group), "r+")
    inner = root.create_group("calibration", overwrite=True)
    arrays: dict[str, npt.NDArray[Any]] = {
        "scores": kept.calibration.scores,
        "pixel_thresholds": kept.calibration.pixel_thresholds,
        "usual": kept.usual,
    }
    for name, data in arrays.items():
        inner.create_array(name, data=data, chunks=data.shape, compressors=compressors())
    if kept.noise:
        put_attributes(inner, asdict(kept.noise))


def read_calibration(workspace: Workspace, model_id: str, group: str) -> KeptCalibration | None:
    """Return the calibration of a group of a model; None if it has none.

    Raises
    ------
    DamagedFileError
        If it is damaged: a checksum does not match, or something is missing.
    """
    path = f"{workspace.model_group(model_id, group)}/calibration"
    file = workspace.at(path)
    with reports_array_damage(file, model_advice(workspace, model_id)):
        try:
            inner = open_zarr_group(workspace, path, "r")
        except FileNotFoundError:
            if workspace.folder.exists(path):
                raise
            return None
        arrays = {
            name: np.asarray(child_array(inner, name)[...])
            for name in ("scores", "pixel_thresholds", "usual")
        }
        attrs = read_attributes(inner, file)
        for name, data in arrays.items():
            if not np.isfinite(data).all():
                raise DamagedFileError(file, f"{name} has values that are no number")
        usual = arrays.pop("usual")
        noise = make_record(Noise, attrs, f"{file}/zarr.json") if attrs else None
        return KeptCalibration(Calibration(**arrays), usual, noise)
