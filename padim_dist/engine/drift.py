"""The drift of a run: one task a group, over the mean embeddings of its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from distributed import Client

from padim_dist.core.drift import measure_drift
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.engine.jobs import Done, WithoutImages
from padim_dist.engine.worker import device, get_calibration, get_gaussian, set_up
from padim_dist.engine.workers import Reporter, run_tasks
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.drifts import read_mean, write_drift
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class DriftJob(WithoutImages):
    """What a worker needs to measure the drift of a group.

    Attributes
    ----------
    place : int
        The group's place among those of the run.
    shards : tuple of (int, int)
        Places of its shards in the run, and the images scored in each.
    count : int
        Images in the model.
    """

    workspace: Folder
    run_id: str
    model_id: str
    group: str
    place: int
    shards: tuple[tuple[int, int], ...]
    embedding: EmbeddingSpec
    count: int
    threads: int

    @property
    def name(self) -> str:
        """The group."""
        return f"drift of {self.group}"


@dataclass(frozen=True)
class DriftReceipt(Done):
    """The drift of a group is measured, if the model knows what is usual."""

    figures: dict[str, Any] | None = None


def measure_drifts(
    client: Client, jobs: Sequence[DriftJob], listener: Listener, most_workers: int | None = None
) -> dict[str, dict[str, Any]]:
    """Measure groups on the workers; their figures by group."""
    stage = "score: drift"
    done = run_tasks(client, measure_group, jobs, stage, len(jobs), listener, most_workers)
    found = {job.group: receipt.figures for job, receipt in done}
    return {group: figures for group, figures in sorted(found.items()) if figures}


@torch.inference_mode()
def measure_group(job: DriftJob) -> DriftReceipt:
    """Task: measure the drift of a group; its map first, then its figures, the receipt."""
    workspace = Workspace(job.workspace)
    receipt = workspace.drifted(job.run_id, job.group)
    there = job.workspace.find_json(receipt)
    if there:
        return DriftReceipt(figures=there)
    Reporter()
    kept = get_calibration(job.workspace, job.model_id, job.group)
    if kept is None or kept.noise is None:
        return DriftReceipt()
    set_up(job.threads)
    shape, run = job.embedding.shape, workspace.run(job.run_id)
    mean = read_mean(job.workspace, run, job.shards, shape)
    drift, ratio = measure_drift(
        mean=[level.to(device()) for level in mean],
        images=sum(images for _, images in job.shards),
        gaussian=get_gaussian(job.workspace, job.model_id, job.group, job.embedding),
        count=job.count,
        noise=kept.noise,
        usual=torch.from_numpy(kept.usual).to(device()),
    )
    write_drift(job.workspace, run, job.place, shape.unnest(ratio[:, None])[0].cpu().numpy())
    figures = {**asdict(drift), "z": drift.z}
    job.workspace.create_json(receipt, figures)
    return DriftReceipt(figures=figures)
