"""Calibration of groups from their leave-one-out results, and the table of their normal images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from padim_dist.core.calibration import Calibration, keep_highest, pixel_thresholds
from padim_dist.core.drift import Noise, measure_noise
from padim_dist.core.pyramid import PyramidShape
from padim_dist.engine.normals import FittedPart, normal_rows
from padim_dist.engine.task import Done, GroupJob, Report
from padim_dist.engine.worker import device
from padim_dist.store.calibrations import (
    KeptCalibration,
    read_left_out,
    write_calibration,
)
from padim_dist.store.normals import Dropped, GroupReceipt, find_group_receipt, write_normals


@dataclass(frozen=True)
class CalibrateJob(GroupJob):
    """What a worker needs to calibrate a group.

    These are its parts, what was dropped from them, and the shape of its embedding.
    """

    parts: tuple[FittedPart, ...]
    dropped: tuple[Dropped, ...]
    shape: PyramidShape

    @property
    def name(self) -> str:
        """Name of the task: its group."""
        return f"calibration of {self.group}"

    @property
    def receipt(self) -> str:
        """Path of the receipt of the calibration."""
        return self.workspace.calibrated(self.model_id, self.group)

    def find(self) -> Calibrated | None:
        """Return the outcome if the group is calibrated already, else None."""
        found = find_group_receipt(self.workspace, self.model_id, self.group)
        return Calibrated.of(found) if found and found.is_of(self.state) else None


@dataclass(frozen=True)
class Calibrated(Done):
    """Outcome of a calibration: images with a leave-one-out score, and images that are suspects."""

    images: int = 0
    suspects: int = 0

    @classmethod
    def of(cls, receipt: GroupReceipt) -> Calibrated:
        """Return the outcome that a receipt tells."""
        return cls(images=receipt.images, suspects=receipt.suspects)


def calibrate_group(job: CalibrateJob, _report: Report) -> Calibrated:
    """Task: calibrate a group; write the calibration, the table of its images, then its receipt."""
    kept, scores = _calibrate(job)
    if kept:
        write_calibration(job.workspace, job.model_id, job.group, kept)
    calibration = kept.calibration if kept else None
    rows = normal_rows(job.model_id, job.group, job.parts, scores, calibration, job.dropped)
    write_normals(job.workspace, job.model_id, job.group, rows)
    receipt = GroupReceipt.of(rows, job.state)
    job.workspace.folder.put_json(job.receipt, asdict(receipt))
    return Calibrated.of(receipt)


@torch.inference_mode()
def _calibrate(job: CalibrateJob) -> tuple[KeptCalibration | None, dict[str, Mapping[str, float]]]:
    """Return the calibration, and the scores of each part by image.

    It is None without images, or if scores are no finite numbers: then the group has no p-values.
    """
    by_part: dict[str, Mapping[str, float]] = {}
    squares: Any = 0.0
    highest, pixels = np.empty(0, np.float32), 0
    whitened: list[list[npt.NDArray[np.float32]]] = []
    scales: list[npt.NDArray[np.float32]] = []
    for path in [part.left_out for part in job.parts if part.left_out]:
        part = read_left_out(job.workspace, path)  # one at a time: each has many pixels
        if not part.pixels:  # all of its images were taken out of the model
            continue
        by_part[path] = part.by_image()
        squares = squares + part.squares
        pixels += part.pixels
        highest = keep_highest(np.concatenate([highest, part.highest]), part.decisive)
        if part.scales.size:
            whitened.append(part.whitened)
            scales.append(part.scales)
    scores = [score for part_scores in by_part.values() for score in part_scores.values()]
    images = len(scores)
    if not images:
        return None, {}
    usual = squares / images
    if not all(np.isfinite(values).all() for values in (scores, usual, highest)):
        return None, {}
    noise = None
    if sum(scale.shape[-1] for scale in scales) > 1:
        levels = [np.concatenate(level, axis=-1) for level in zip(*whitened, strict=True)]
        z = [torch.from_numpy(level).to(device()) for level in levels]
        scale = torch.from_numpy(np.concatenate(scales, axis=-1)).to(device())
        judged = job.shape.judged(device())
        energy = usual if judged is None else usual[judged.cpu().numpy()]
        noise = Noise(energy=float(energy.mean()), overlap=measure_noise(z, scale, judged))
    thresholds = pixel_thresholds(np.sort(highest), pixels)
    calibration = Calibration(np.sort(np.asarray(scores, np.float64)), thresholds)
    return KeptCalibration(calibration, usual.astype(np.float32), noise), by_part
