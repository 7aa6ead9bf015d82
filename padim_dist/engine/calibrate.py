"""The calibration: from what images that are left out score to what normal images score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from distributed import Client

from padim_dist.core.calibration import Calibration, keep_highest, pixel_thresholds
from padim_dist.core.drift import Noise, measure_noise
from padim_dist.engine.jobs import Done, WithoutImages
from padim_dist.engine.leave_out import LeaveOutJob, leave_out_parts
from padim_dist.engine.worker import device, set_up
from padim_dist.engine.workers import Reporter, run_tasks
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.calibrations import KeptCalibration, write_calibration
from padim_dist.store.left_out import read_left_out
from padim_dist.store.workspace import Workspace

LEAST_IMAGES = 3
"""Of a group, to calibrate it: one left out, and a covariance of the others."""


@dataclass(frozen=True)
class CalibrateJob(WithoutImages):
    """What a worker needs to calibrate a group.

    Attributes
    ----------
    left_out : tuple of str
        Files of the group's parts (see `leave_out_part`).
    """

    workspace: Folder
    model_id: str
    group: str
    left_out: tuple[str, ...]
    threads: int

    @property
    def name(self) -> str:
        """The group."""
        return f"calibration of {self.group}"


def calibrate_groups(
    client: Client,
    parts: Sequence[LeaveOutJob],
    listener: Listener,
    most_workers: int | None = None,
) -> None:
    """Calibrate groups on the workers: a map over their parts, then one over the groups."""
    if not parts:
        return
    folder, model_id = parts[0].workspace, parts[0].model_id
    workspace = Workspace(folder)
    by_group: dict[str, list[LeaveOutJob]] = {}
    for part in parts:
        by_group.setdefault(part.group, []).append(part)
    jobs = [
        CalibrateJob(folder, model_id, group, tuple(p.path for p in own), own[0].threads)
        for group, own in by_group.items()
        if not folder.exists(workspace.calibrated(model_id, group))
    ]
    leave_out_parts(
        client, [part for job in jobs for part in by_group[job.group]], listener, most_workers
    )
    stage = "fit: calibrate"
    for _ in run_tasks(client, calibrate_group, jobs, stage, len(jobs), listener, most_workers):
        pass


def calibrate_group(job: CalibrateJob) -> Done:
    """Task: put together what the parts of a group say; write that, then a receipt."""
    workspace = Workspace(job.workspace)
    receipt = workspace.calibrated(job.model_id, job.group)
    if job.workspace.exists(receipt):
        return Done()
    Reporter()
    set_up(job.threads)
    images, kept = _calibrate(job)
    if kept:
        write_calibration(job.workspace, workspace.model(job.model_id), job.group, kept)
    job.workspace.create_json(receipt, {"images": images})
    return Done()


@torch.inference_mode()
def _calibrate(job: CalibrateJob) -> tuple[int, KeptCalibration | None]:
    """Images that were left out, and what comes of them, if there are any."""
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
    noise = None
    if sum(scale.shape[-1] for scale in scales) > 1:
        levels = [np.concatenate(level, axis=-1) for level in zip(*whitened, strict=True)]
        z = [torch.from_numpy(level).to(device()) for level in levels]
        scale = torch.from_numpy(np.concatenate(scales, axis=-1)).to(device())
        noise = Noise(energy=float(usual.mean()), overlap=measure_noise(z, scale))
    thresholds = pixel_thresholds(np.sort(highest), pixels)
    calibration = Calibration(np.sort(np.asarray(scores, np.float64)), thresholds)
    return images, KeptCalibration(calibration, usual.astype(np.float32), noise)
