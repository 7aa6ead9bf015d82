"""The scoring: a map over shards, each of which ends as one Parquet file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from distributed import Client
from torch import Tensor

from padim_dist.archive.reader import LoadedImage
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.gaussian import Gaussian
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.engine.examine import Examination
from padim_dist.engine.run import Reporter, run_tasks
from padim_dist.engine.worker import Reading, batches, device, get_embedder, get_gaussian, set_up
from padim_dist.errors import RunError
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.manifests import Shard
from padim_dist.store.runs import count_statuses, write_heatmaps, write_scores
from padim_dist.store.workspace import Workspace
from padim_dist.telemetry.measures import count_images, timed


@dataclass(frozen=True)
class ScoreJob:
    """What a worker needs to score a shard.

    Attributes
    ----------
    place : int
        The shard's place among the run's shards: names its score table and its heatmaps.
        (Its number in the manifest moves when other images come in; the run does not.)
    heatmaps : bool
        Whether to keep them.
    has_model : bool
        Whether the model knows the shard's group; if not, its rows say so.
    """

    workspace: Folder
    run_id: str
    model_id: str
    snapshot: str
    shard: Shard
    place: int
    embedding: EmbeddingSpec
    sigma: float
    reading: Reading
    heatmaps: bool
    has_model: bool
    threads: int

    @property
    def name(self) -> str:
        """Place of the shard."""
        return f"shard {self.place}"

    @property
    def size(self) -> int:
        """Images of the shard."""
        return self.shard.images

    @property
    def examinations(self) -> list[Examination]:
        """The shard."""
        return [Examination(self.workspace, self.snapshot, self.shard, self.reading.reader)]


@dataclass(frozen=True)
class ShardReceipt:
    """Rows of a shard by status."""

    statuses: dict[str, int]

    @property
    def done(self) -> int:
        """Rows of the shard."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """Rows that are not scored."""
        return self.done - self.statuses.get("scored", 0)


def score_shards(
    client: Client, jobs: Sequence[ScoreJob], listener: Listener, most_workers: int | None = None
) -> dict[int, ShardReceipt]:
    """Score shards on the workers; their receipts by place in the run."""
    total = sum(job.size for job in jobs)
    done = run_tasks(client, score_shard, jobs, "score", total, listener, most_workers)
    return {job.place: receipt for job, receipt in done}


def score_shard(job: ScoreJob) -> ShardReceipt:
    """Task: score the images of a shard; heatmaps first, then the table, its receipt."""
    workspace = Workspace(job.workspace)
    path = workspace.scores(job.run_id, job.place)
    if job.workspace.exists(path):
        return ShardReceipt(count_statuses(job.workspace, path))
    set_up(job.threads)
    spec = job.embedding
    grid = spec.shape.grids[0]
    anomaly_map = AnomalyMap.build(grid, spec.geometry.crop, job.sigma, device())
    reporter = Reporter()
    rows = [row for examination in job.examinations for row in examination.rows()]
    if not job.has_model:
        reason = f"model {job.model_id} has no group {job.shard.group!r}; fit one that has it"
        rows = [{**row, "refused": reason} for row in rows]
    table: list[dict[str, Any]] = []
    maps = np.full((len(rows), *grid), np.nan, np.float32)
    for images, pixels in batches(rows, job.reading, spec.batch, True):
        start = len(table)
        table += [_row(image, job) for image in images]
        if pixels is not None:
            usable = [start + i for i, image in enumerate(images) if image.pixels is not None]
            embedder = get_embedder(job.workspace, spec)
            assert job.shard.group is not None
            gaussian = get_gaussian(job.workspace, job.model_id, job.shard.group, spec)
            with timed("embed"):
                levels = embedder(pixels)
            with timed("measure"):
                distances, scores, peaks = _measure(levels, gaussian, anomaly_map, spec)
                are_numbers = bool(torch.isfinite(scores).all())
            if not are_numbers:
                raise RunError(
                    f"model {job.model_id} gives distances that are no numbers: it is damaged. "
                    f"Remove {job.workspace.at(workspace.model(job.model_id))} and run 'fit'"
                )
            maps[usable] = distances[: len(usable)].cpu().numpy()
            for place, score, (y, x) in zip(usable, scores.tolist(), peaks.tolist(), strict=False):
                row = table[place]
                row["score"] = score
                row["peak_y"], row["peak_x"] = spec.geometry.to_original(
                    y, x, row["height"], row["width"]
                )
        count_images("score", [image.status for image in images])
        reporter.report(len(table), sum(row["status"] != "scored" for row in table))
    with timed("write"):
        if job.heatmaps:
            first = write_heatmaps(job.workspace, workspace.run(job.run_id), job.place, maps)
            for place, row in enumerate(table):
                row["heatmap_row"] = first + place if row["status"] == "scored" else None
        is_first = write_scores(job.workspace, path, table)
    if not is_first:  # a twin was faster
        return ShardReceipt(count_statuses(job.workspace, path))
    return ShardReceipt(dict(Counter(row["status"] for row in table)))


@torch.inference_mode()
def _measure(
    levels: list[Tensor], gaussian: Gaussian, anomaly_map: AnomalyMap, spec: EmbeddingSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Patch distances (N, h, w), scores (N,), peaks (N, 2) of a batch."""
    distances = spec.shape.unnest(gaussian.distances(levels))
    return distances, *anomaly_map.score(distances)


def _row(image: LoadedImage, job: ScoreJob) -> dict[str, Any]:
    """Row of the score table, score and peak not yet filled."""
    kept = ("image_id", "uri", "member", "etag", "group", "split", "label")
    return {
        **{name: image.row[name] for name in kept},
        "status": image.status,
        "error": image.error,
        "width": image.width,
        "height": image.height,
        "shard": job.place,
        "run_id": job.run_id,
        "model_id": job.model_id,
        "scored_at": datetime.now(UTC),
    }
