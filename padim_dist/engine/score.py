"""The scoring: a map over shards, each of which ends as one Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from distributed import Client
from torch import Tensor

from padim_dist.archive.reading.reader import LoadedImage
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.regions import Region, find_regions
from padim_dist.engine.examine import Examination
from padim_dist.engine.worker import (
    Reading,
    batches,
    device,
    get_calibration,
    get_embedder,
    get_gaussian,
    set_up,
)
from padim_dist.engine.workers import Reporter, run_tasks
from padim_dist.errors import RunError
from padim_dist.events import Listener
from padim_dist.storage import Folder
from padim_dist.store.calibrations import KeptCalibration
from padim_dist.store.drifts import write_mean
from padim_dist.store.manifests import Shard
from padim_dist.store.run import (
    ShardCounts,
    count_rows,
    scores_table,
    write_heatmaps,
    write_regions,
    write_scores,
)
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
    alpha : float
        Images are flagged whose p-value is at most this.
    pixel_alpha : float
        Share of normal pixels above the threshold of a region.
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
    alpha: float
    pixel_alpha: float
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


def score_shards(
    client: Client, jobs: Sequence[ScoreJob], listener: Listener, most_workers: int | None = None
) -> dict[int, ShardCounts]:
    """Score shards on the workers; their receipts by place in the run."""
    total = sum(job.size for job in jobs)
    done = run_tasks(client, score_shard, jobs, "score", total, listener, most_workers)
    return {job.place: receipt for job, receipt in done}


def score_shard(job: ScoreJob) -> ShardCounts:
    """Task: score the images of a shard; heatmaps first, then the table, its receipt."""
    workspace = Workspace(job.workspace)
    path = workspace.scores(job.run_id, job.place)
    if job.workspace.exists(path):
        return count_rows(job.workspace, path)
    set_up(job.threads)
    spec = job.embedding
    reporter = Reporter()
    rows = [row for examination in job.examinations for row in examination.rows()]
    if not job.has_model:
        reason = f"model {job.model_id} has no group {job.shard.group!r}; fit one that has it"
        rows = [{**row, "refused": reason} for row in rows]
    shard = _Shard(job, len(rows))
    for images, pixels in batches(rows, job.reading, spec.batch, True):
        usable = shard.add(images)
        if pixels is not None:
            embedder = get_embedder(job.workspace, spec)
            with timed("embed"):
                levels = embedder(pixels)
            with timed("measure"):
                shard.measure(levels, usable)
        count_images("score", [image.status for image in images])
        reporter.report(len(shard.table), sum(row["status"] != "scored" for row in shard.table))
    with timed("write"):
        return shard.write(workspace)


class _Shard:
    """The results of a shard while it is being scored."""

    def __init__(self, job: ScoreJob, images: int) -> None:
        spec = job.embedding
        grid = spec.shape.grids[0]
        self._job = job
        self._anomaly_map = AnomalyMap.build(grid, spec.geometry.crop, job.sigma, device())
        self._maps = np.full((images, *grid), np.nan, np.float32)
        self._sums: list[Tensor] = []
        self._regions: list[dict[str, Any]] = []
        self.table: list[dict[str, Any]] = []

    def add(self, images: Sequence[LoadedImage]) -> list[int]:
        """Add a batch's rows to the table; places of those that can be scored."""
        start = len(self.table)
        self.table += [_row(image, self._job) for image in images]
        return [start + i for i, image in enumerate(images) if image.pixels is not None]

    @torch.inference_mode()
    def measure(self, levels: Sequence[Tensor], usable: Sequence[int]) -> None:
        """Score a batch, of which the first images are those at the places `usable`.

        Raises
        ------
        RunError
            If the model gives no numbers.
        """
        job, shape = self._job, self._job.embedding.shape
        assert job.shard.group is not None
        gaussian = get_gaussian(job.workspace, job.model_id, job.shard.group, job.embedding)
        distances = shape.unnest(gaussian.distances(levels))[: len(usable)]
        maps = self._anomaly_map.full(distances)
        scores, peaks = find_peaks(maps)
        if not bool(torch.isfinite(scores).all()):
            damaged = job.workspace.at(Workspace(job.workspace).model(job.model_id))
            raise RunError(
                f"model {job.model_id} gives distances that are no numbers: it is damaged. "
                f"Remove {damaged} and run 'fit', with another model.precision if this is float16"
            )
        self._maps[usable] = distances.cpu().numpy()
        for place, score, (y, x) in zip(usable, scores.tolist(), peaks.tolist(), strict=True):
            row = self.table[place]
            row["score"] = score
            size = row["height"], row["width"]
            row["peak_y"], row["peak_x"] = job.embedding.geometry.to_original(y, x, *size)
        kept = get_calibration(job.workspace, job.model_id, job.shard.group)
        if kept is None:
            return
        sums = [level[..., : len(usable)].sum(dim=-1, dtype=torch.float64) for level in levels]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._judge(kept, maps, scores, usable)

    def _judge(
        self, kept: KeptCalibration, maps: Tensor, scores: Tensor, usable: Sequence[int]
    ) -> None:
        """Give p-values, and the regions of what is flagged."""
        job, calibration = self._job, kept.calibration
        p_values, extrapolated = calibration.p_values(scores.cpu().numpy())
        level = calibration.pixel_threshold(job.pixel_alpha)
        for i, place in enumerate(usable):
            row = self.table[place]
            row["p_value"] = float(p_values[i])
            row["p_extrapolated"] = bool(extrapolated[i])
            row["flagged"] = bool(p_values[i] <= job.alpha)
            if row["flagged"]:
                found = find_regions(maps[i].cpu().numpy(), min(level, row["score"]))
                p_of_peaks, _ = calibration.p_values([region.peak for region in found])
                for number, (region, p) in enumerate(zip(found, p_of_peaks, strict=True), 1):
                    if p <= job.alpha:
                        self._regions.append(_region(row, number, region, float(p), job))

    def write(self, workspace: Workspace) -> ShardCounts:
        """Write everything, the score table, which is the receipt, last."""
        job, folder = self._job, self._job.workspace
        run = workspace.run(job.run_id)
        if job.heatmaps:
            first = write_heatmaps(folder, run, job.place, self._maps)
            for place, row in enumerate(self.table):
                row["heatmap_row"] = first + place if row["status"] == "scored" else None
        if self._sums:
            scored = sum(row["status"] == "scored" for row in self.table)
            write_mean(folder, run, job.place, [total / scored for total in self._sums])
        if self._regions:
            write_regions(folder, workspace.regions(job.run_id, job.place), self._regions)
        path, table = workspace.scores(job.run_id, job.place), scores_table(self.table)
        is_first = write_scores(folder, path, table)
        return ShardCounts.of(table) if is_first else count_rows(folder, path)  # a twin's


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


def _region(
    row: Mapping[str, Any], number: int, region: Region, p_value: float, job: ScoreJob
) -> dict[str, Any]:
    """Row of the table of regions."""
    geometry, size = job.embedding.geometry, (row["height"], row["width"])
    top, left, bottom, right = geometry.box_to_original(region.box, *size)
    y, x = geometry.to_original(*region.place, *size)
    kept = ("image_id", "uri", "member", "group", "label", "shard", "run_id", "model_id")
    return {
        **{name: row[name] for name in kept},
        "region": number,
        "area": round(region.area * geometry.pixels_a_pixel(*size)),
        "top": top,
        "left": left,
        "bottom": bottom,
        "right": right,
        "peak": region.peak,
        "peak_y": y,
        "peak_x": x,
        "p_value": p_value,
    }
