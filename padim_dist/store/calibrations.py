"""Calibrations: leave-one-out results of a model's normal images, a Zarr group for each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.calibration import Calibration
from padim_dist.core.drift import Noise
from padim_dist.store.arrays import child_array, compressor, open_zarr_group
from padim_dist.store.workspace import Workspace, group_slug


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
    root = open_zarr_group(workspace, f"{workspace.model(model_id)}/{group_slug(group)}", "r+")
    inner = root.create_group("calibration", overwrite=True)
    arrays: dict[str, npt.NDArray[Any]] = {
        "scores": kept.calibration.scores,
        "pixel_thresholds": kept.calibration.pixel_thresholds,
        "usual": kept.usual,
    }
    for name, data in arrays.items():
        inner.create_array(name, data=data, chunks=data.shape, compressors=compressor())
    if kept.noise:
        inner.attrs.update({"energy": kept.noise.energy, "overlap": kept.noise.overlap})


def read_calibration(workspace: Workspace, model_id: str, group: str) -> KeptCalibration | None:
    """Return the calibration of a group of a model; None if it has none."""
    try:
        path = f"{workspace.model(model_id)}/{group_slug(group)}/calibration"
        inner = open_zarr_group(workspace, path, "r")
    except FileNotFoundError:
        return None

    def read(name: str) -> Any:
        return np.asarray(child_array(inner, name)[...])

    attrs: dict[str, Any] = dict(inner.attrs)
    noise = Noise(attrs["energy"], attrs["overlap"]) if "energy" in attrs else None
    return KeptCalibration(
        Calibration(read("scores"), read("pixel_thresholds")), read("usual"), noise
    )
