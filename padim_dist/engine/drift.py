"""The drift of a run: one task per group, over the mean embeddings of its shards."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from padim_dist.core.drift import measure_drift
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.task import Done, Report, WithoutImages
from padim_dist.engine.worker import device, get_calibration, get_gaussian
from padim_dist.store.run import Run
from padim_dist.store.run_arrays import DriftFigures


@dataclass(frozen=True)
class DriftJob(WithoutImages):
    """What a worker needs to measure the drift of a group, which has `count` images in the model.

    `place` is its position among the groups of the run; `shards` has the position of each of its
    shards in the run, and the number of scored images.
    """

    run: Run
    model_id: str
    group: str
    place: int
    shards: tuple[tuple[int, int], ...]
    embedding: EmbeddingSpec
    count: int

    @property
    def name(self) -> str:
        """Name of the task: its group."""
        return f"drift of {self.group}"

    def find(self) -> DriftReceipt | None:
        """Return the receipt of the group; None if it is not measured yet."""
        figures = self.run.drift.find(self.group)
        return DriftReceipt(figures=figures) if figures else None


@dataclass(frozen=True)
class DriftReceipt(Done):
    """The drift of a group; no figures if the model has no sampling noise."""

    figures: DriftFigures | None = None


@torch.inference_mode()
def measure_group(job: DriftJob, _report: Report) -> DriftReceipt:
    """Task: measure the drift of a group; write its map first, then its figures, the receipt."""
    workspace, shape = job.run.workspace, job.embedding.shape
    kept = get_calibration(workspace, job.model_id, job.group)
    if kept is None or kept.noise is None:
        return DriftReceipt()
    flat = torch.from_numpy(job.run.drift.read_mean(job.shards)).float().to(device())
    levels = zip(flat.split(shape.sizes), shape.positions, strict=True)
    drift, ratio = measure_drift(
        mean=[level.reshape(positions, -1) for level, positions in levels],
        images=sum(images for _, images in job.shards),
        gaussian=get_gaussian(workspace, job.model_id, job.group, job.embedding),
        count=job.count,
        noise=kept.noise,
        usual=torch.from_numpy(kept.usual).to(device()),
    )
    figures = DriftFigures(**asdict(drift), z=drift.z)
    drift_map = shape.unnest(ratio[:, None])[0].cpu().numpy()
    job.run.drift.write(job.place, job.group, drift_map, figures)
    return DriftReceipt(figures=figures)
