"""Calibration of groups from their leave-one-out results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from padim_dist.core.calibration import Calibration, keep_highest, pixel_thresholds
from padim_dist.core.drift import Noise, measure_noise
from padim_dist.engine.task import Done, GroupJob, Report
from padim_dist.engine.worker import device
from padim_dist.store.calibrations import KeptCalibration, read_left_out, write_calibration

LEAST_IMAGES = 3
"""Images that a group needs to be calibrated: one to leave out, two for a covariance."""


@dataclass(frozen=True)
class CalibrateJob(GroupJob):
    """What a worker needs to calibrate a group: paths of the leave-one-out results of its parts."""

    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the task: its group."""
        return f"calibration of {self.group}"

    @property
    def receipt(self) -> str:
        """Path of the receipt of the calibration."""
        return self.workspace.calibrated(self.model_id, self.group)


def calibrate_group(job: CalibrateJob, _report: Report) -> Done:
    """Task: calibrate a group; write the calibration, then its receipt."""
    images, kept = _calibrate(job)
    if kept:
        write_calibration(job.workspace, job.model_id, job.group, kept)
    job.workspace.folder.create_json(job.receipt, {"images": images})
    return Done()


@torch.inference_mode()
def _calibrate(job: CalibrateJob) -> tuple[int, KeptCalibration | None]:
    """Return the number of images left out, and the calibration.

    It is None without images, or if scores are no finite numbers: then the group has no p-values.
    """
    scores: list[float] = []
    squares: Any = 0.0
    highest, pixels = np.empty(0, np.float32), 0
    whitened: list[list[npt.NDArray[np.float32]]] = []
    scales: list[npt.NDArray[np.float32]] = []
    for path in job.left_out:  # one at a time: each has many pixels
        part = read_left_out(job.workspace, path)
        if not part.pixels:  # all of its images were taken out of the model
            continue
        scores += part.scores.tolist()
        squares = squares + part.squares
        pixels += part.pixels
        highest = keep_highest(np.concatenate([highest, part.highest]), part.decisive)
        if part.scales.size:
            whitened.append(part.whitened)
            scales.append(part.scales)
    images = len(scores)
    if not images:
        return 0, None
    usual = squares / images
    if not all(np.isfinite(values).all() for values in (scores, usual, highest)):
        return images, None
    noise = None
    if sum(scale.shape[-1] for scale in scales) > 1:
        levels = [np.concatenate(level, axis=-1) for level in zip(*whitened, strict=True)]
        z = [torch.from_numpy(level).to(device()) for level in levels]
        scale = torch.from_numpy(np.concatenate(scales, axis=-1)).to(device())
        noise = Noise(energy=float(usual.mean()), overlap=measure_noise(z, scale))
    thresholds = pixel_thresholds(np.sort(highest), pixels)
    calibration = Calibration(np.sort(np.asarray(scores, np.float64)), thresholds)
    return images, KeptCalibration(calibration, usual.astype(np.float32), noise)
