"""The drift of a run: one task per group, over the mean embeddings of its shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch

from padim_dist.core.drift import ALIKE, NOT_FINITE, measure_drift
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.task import Done, Report, WithoutImages
from padim_dist.engine.worker import device, forget_model, get_calibration, get_gaussian
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.run import Run

_UNCALIBRATED = "the model has no calibration of it (fit.sample: 0, or fewer than 3 normal images)"
_FEW = "the model kept fewer than 2 of its normal images"


@dataclass(frozen=True)
class DriftJob(WithoutImages):
    """What a worker needs to measure the drift of a group, which has `count` images in the model.

    `made` is when the model was made; see `get_gaussian`. `place` is its position among the groups
    of the run; `shards` has the position of each of its shards in the run, and the number of scored
    images.
    """

    run: Run
    model_id: str
    made: str
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
    """The drift of a group: its figures, or why it is unknown."""

    figures: DriftFigures | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class RunDrifts:
    """The drift of a run by group: figures, and why those of other groups are unknown."""

    figures: dict[str, DriftFigures]
    unknown: dict[str, str]

    @classmethod
    def of(cls, measured: Iterable[tuple[DriftJob, DriftReceipt]]) -> RunDrifts:
        """Sort what was measured by group."""
        found = sorted(((job.group, receipt) for job, receipt in measured), key=lambda one: one[0])
        return cls(
            {group: receipt.figures for group, receipt in found if receipt.figures},
            {group: receipt.unknown for group, receipt in found if receipt.unknown},
        )

    def warnings(self) -> list[str]:
        """Return why drifts are unknown, beyond the absence of a calibration."""
        return [
            f"the drift of group {group!r} is unknown: {why}"
            for group, why in self.unknown.items()
            if why in (ALIKE, NOT_FINITE)
        ]


@torch.inference_mode()
def measure_group(job: DriftJob, _report: Report) -> DriftReceipt:
    """Task: measure the drift of a group; write its map first, then its figures, the receipt.

    A drift that cannot be known has no receipt: figures of a report never end a run.
    """
    workspace, shape = job.run.workspace, job.embedding.shape
    model = (workspace, job.model_id, job.made, job.group)
    kept = get_calibration(*model)
    if kept is None or kept.noise is None:
        return DriftReceipt(unknown=_UNCALIBRATED if kept is None else _FEW)
    if not kept.noise.is_measurable:
        return DriftReceipt(unknown=ALIKE)
    flat = (
        torch.from_numpy(job.run.drift.read_mean(job.shards, sum(shape.sizes))).float().to(device())
    )
    levels = zip(flat.split(shape.sizes), shape.positions, strict=True)
    drift, ratio = measure_drift(
        mean=[level.reshape(positions, -1) for level, positions in levels],
        images=sum(images for _, images in job.shards),
        gaussian=get_gaussian(*model, job.embedding),
        count=job.count,
        noise=kept.noise,
        usual=torch.from_numpy(kept.usual).to(device()),
        judged=shape.judged(device()),
    )
    if not drift.is_finite:
        forget_model()
        return DriftReceipt(unknown=NOT_FINITE)
    figures = DriftFigures(**asdict(drift), z=drift.z)
    drift_map = shape.unnest(ratio[:, None])[0].cpu().numpy()
    return DriftReceipt(figures=job.run.drift.write(job.place, job.group, drift_map, figures))
