"""Scoring: a map over shards; each shard becomes one Parquet file. `compute_shard` does it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.core.gaussian import nested_squares
from padim_dist.core.heatmap import AnomalyMap, divide_scores, find_peaks, fine_middle_coarse
from padim_dist.core.status import SCORED
from padim_dist.engine.leave_out import leave_out_members
from padim_dist.engine.regions import region_rows
from padim_dist.engine.score_job import ScoreJob
from padim_dist.engine.task import Report
from padim_dist.engine.worker import (
    batches,
    device,
    forget_model,
    get_calibration,
    get_embedder,
    get_gaussian,
    get_members,
    machine,
)
from padim_dist.errors import RunError
from padim_dist.redaction import redacted
from padim_dist.store.calibrations import KeptCalibration
from padim_dist.store.runs.arrays import as_kept
from padim_dist.store.runs.digests import ShardFiles
from padim_dist.store.runs.rows import RegionRow, ScoreRow
from padim_dist.store.runs.tables import ShardCounts
from padim_dist.telemetry.measures import count_images, timed

_COPIED = ("image_id", "member", "etag", "group", "split", "label")


def score_shard(job: ScoreJob, report: Report) -> ShardCounts:
    """Task: score the images of a shard; write heatmaps first, then the table, its receipt."""
    if job.again and job.is_still_unsettled():
        return _counts(job)
    shard = compute_shard(job, report)
    with timed("write"):
        return shard.write()


def compute_shard(job: ScoreJob, report: Report, with_regions: Collection[str] = ()) -> ScoredShard:
    """Score the images of a shard and write nothing.

    `with_regions` are ids of images whose regions are found, beside those of images that the rule
    is likely to flag.
    """
    spec, rows = job.embedding, job.rows()
    shard = ScoredShard(job, len(rows), frozenset(with_regions))
    for images, pixels in batches(rows, job.reading, spec.batch, True):
        usable = shard.add(images)
        if pixels is not None:
            embedder = get_embedder(job.run.workspace, spec)
            with timed("embed"):
                levels = embedder(pixels, len(usable))
            with timed("measure"):
                shard.measure(levels, usable)
        count_images("score", [image.status for image in images])
        report(len(shard.table), sum(row.status != SCORED for row in shard.table))
    return shard


class ScoredShard:
    """The results of a shard, while it is being scored and afterwards.

    Attributes
    ----------
    table, regions : list of ScoreRow, list of RegionRow
        Its rows.
    maps : array
        Heatmaps of the rows (n, h, w), float32; NaN for those that are not scored, and outside of
        the region of interest.
    """

    def __init__(self, job: ScoreJob, images: int, with_regions: frozenset[str]) -> None:
        spec = job.embedding
        grid = spec.shape.grids[0]
        self._job = job
        self._with_regions = with_regions
        self._anomaly_map = AnomalyMap.build(grid, spec.geometry.crop, job.sigma, device())
        self._sums: list[Tensor] = []
        self.maps = np.full((images, *grid), np.nan, np.float32)
        self.regions: list[RegionRow] = []
        self.table: list[ScoreRow] = []

    def add(self, images: Sequence[LoadedImage]) -> list[int]:
        """Add a batch's rows to the table; return the places of the usable ones."""
        start = len(self.table)
        self.table += [_row(image, self._job) for image in images]
        return [start + i for i, image in enumerate(images) if image.pixels is not None]

    @torch.inference_mode()
    def measure(self, levels: Sequence[Tensor], usable: Sequence[int]) -> None:
        """Score a batch: image i belongs to row `usable[i]`; the rest is padding.

        Raises
        ------
        RunError
            If the model gives distances that are not finite.
        """
        job, shape = self._job, self._job.embedding.shape
        assert job.shard.group is not None
        workspace = job.run.workspace
        model = (workspace, job.model_id, job.made, job.shard.group)
        gaussian = get_gaussian(*model, job.embedding)
        squares = nested_squares(gaussian.whitened(levels))
        self._own = np.full(len(usable), np.nan)
        if job.leaves_out:
            rows = [self.table[place] for place in usable]
            self._own = leave_out_members(get_members(*model), gaussian, squares, rows)
        is_sound = bool(torch.isfinite(squares[0][:, : len(usable)]).all())
        # Padding is cut off last: sums over other numbers of images have other last bits.
        distances = shape.unnest(squares[0].sqrt())
        scores, peaks = find_peaks(self._anomaly_map.full(distances, shape.mask))
        parts = divide_scores(squares, shape, self._anomaly_map, peaks)[: len(usable)].tolist()
        distances, scores, peaks = (one[: len(usable)] for one in (distances, scores, peaks))
        if not (is_sound and bool(torch.isfinite(scores).all())):
            forget_model()
            damaged = workspace.at(workspace.model(job.model_id))
            raise RunError(
                f"model {job.model_id} gives distances that are not finite: it is damaged. Remove "
                f"{damaged} and run 'padim-dist fit', with another model.precision if this is "
                "float16"
            )
        self.maps[usable] = distances.cpu().numpy()
        found = zip(usable, scores.tolist(), peaks.tolist(), parts, strict=True)
        for place, score, (y, x), own in found:
            row = self.table[place]
            row.score = score
            row.score_fine, row.score_middle, row.score_coarse = fine_middle_coarse(own)
            row.peak_y, row.peak_x = job.embedding.geometry.to_original(y, x, *row.size, row.motion)
        kept = get_calibration(*model)
        if kept is None:
            return
        sums = [level[..., : len(usable)].sum(dim=-1, dtype=torch.float64) for level in levels]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._judge(kept, scores, usable)

    def _judge(self, kept: KeptCalibration, scores: Tensor, usable: Sequence[int]) -> None:
        """Add p-values, and the regions of images that are likely to be flagged."""
        job, calibration = self._job, kept.calibration
        own = self._own  # scores in the calibration sample, of images that are in it
        p_values, extrapolated = calibration.p_values(scores.cpu().numpy(), own)
        for i, place in enumerate(usable):
            row = self.table[place]
            row.p_value = float(p_values[i])
            row.p_extrapolated = bool(extrapolated[i])
            row.resolution = calibration.resolution_without(own[i])
            is_likely = row.p_value <= job.alarms.likely(row.resolution)
            if is_likely or row.image_id in self._with_regions:
                # In the precision of the kept heatmaps, in which `judge` finds others.
                grid = torch.from_numpy(as_kept(self.maps[place][None])).to(device())
                full = self._anomaly_map.full_of_kept(grid)[0].cpu().numpy()
                where = (job.pixel_alpha, job.embedding.geometry)
                self.regions += region_rows(row, full, calibration, *where, own[i])

    def write(self) -> ShardCounts:
        """Write all results; the score table is the receipt and comes last."""
        job, run = self._job, self._job.run
        if job.again and self._has_lost_images():
            return _counts(job)
        if not job.again and (counts := job.find()):
            return counts  # of a copy of the task: the files of the shard stay those of its receipt
        digests: dict[str, str] = {}
        if job.heatmaps:
            first, digests = run.heatmaps.write(job.place, self.maps)
            self.number_heatmaps(first)
        if self._sums:
            scored = sum(row.status == SCORED for row in self.table)
            means = [(total / scored).float().flatten() for total in self._sums]
            run.drift.write_mean(job.place, torch.cat(means).cpu().numpy())
        if self.regions:
            digests |= run.regions.replace(job.place, run.regions.make(self.regions))
        else:  # of a killed task, or of what is scored again: the receipt would not name it
            run.workspace.folder.remove(run.regions.shard(job.place))
        files = ShardFiles(digests, machine(self._job.packages))
        table = files.in_receipt(run.scores.make(self.table))
        if job.again:
            return ShardCounts.of(table, files.also(run.scores.replace(job.place, table)))
        own = run.scores.create(job.place, table)
        return _counts(job) if own is None else ShardCounts.of(table, files.also(own))

    def number_heatmaps(self, first: int) -> None:
        """Say in the rows where their heatmaps are, given the row of the first one."""
        for place, row in enumerate(self.table):
            row.heatmap_row = first + place if row.status == SCORED else None

    def _has_lost_images(self) -> bool:
        """Return whether an image that was scored before cannot be scored any more."""
        known = self._job.known()
        return any(known.get(row.image_id) == SCORED and row.status != SCORED for row in self.table)


def _counts(job: ScoreJob) -> ShardCounts:
    counts = job.run.scores.find_counts(job.place)
    assert counts is not None
    return counts


def _row(image: LoadedImage, job: ScoreJob) -> ScoreRow:
    row, found = image.row, image.alignment
    motion = found.motion if found else None
    return ScoreRow(
        **{name: getattr(row, name) for name in _COPIED},
        uri=redacted(row.uri),
        status=image.status,
        error=image.error and redacted(image.error),
        width=image.width,
        height=image.height,
        bits=image.form.bits if image.form else None,
        grey=image.form.grey if image.form else None,
        captured_at=(job.time and job.time.find(row)) or image.captured_at,
        shift_y=motion.shift_y if motion else None,
        shift_x=motion.shift_x if motion else None,
        angle=motion.angle if motion else None,
        aligned=found.quality if found else None,
        shard=job.place,
        run_id=job.run.run_id,
        model_id=job.model_id,
        scored_at=datetime.now(UTC),
    )
