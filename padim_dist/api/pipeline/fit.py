"""Fit: make a model from the manifest's normal images."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy
import torch
import torchvision
import zarr

from padim_dist.api.pipeline.fit_plan import FitPlan, fit_settings, plan_fit
from padim_dist.api.pipeline.leave_outs import leave_outs
from padim_dist.api.pipeline.warnings import fit_warnings
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import ConfigLike, as_config, logger, model_settings
from padim_dist.config import Config
from padim_dist.engine import projection
from padim_dist.engine.calibrate import CalibrateJob, calibrate_group
from padim_dist.engine.factorise import FactoriseJob, band_cells, bands, factorise_band
from padim_dist.engine.fit import EmbedJob, PartReceipt, embed_part, find_receipts
from padim_dist.engine.leave_out import LeaveOutJob, leave_out_part
from padim_dist.engine.workers import Workers, open_workers
from padim_dist.errors import ArchiveError, RequestError
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted
from padim_dist.store.gaussians import create_model
from padim_dist.store.lease import hold
from padim_dist.store.models import (
    FitHead,
    FitPart,
    ModelInfo,
    find_model,
    finish_model,
    list_models,
    put_fit,
)


@dataclass(frozen=True)
class FitResult:
    """Result of a fit.

    Attributes
    ----------
    fit_id, model_id : str
        Content addresses of the moments, and of the model made from them.
    images : int
        Normal images of the manifest, or of the window.
    embedded, resumed : int
        Images embedded by this call, and by earlier ones.
    failures, groups : mapping of str to int
        Unusable images by status, and images in the model by group.
    seconds, images_per_second : float
        Duration and rate of this call, with the start of the cluster.
    warnings : list of str
        Warnings about the model.
    """

    fit_id: str
    model_id: str
    images: int
    embedded: int
    resumed: int
    failures: dict[str, int]
    groups: dict[str, int]
    seconds: float
    images_per_second: float
    warnings: list[str]


def fit(config: ConfigLike, listener: Listener = ignore, *, resume: str | None = None) -> FitResult:
    """Fit the Gaussians of every group on its normal images.

    A second call with the same settings and archive resumes: parts with a receipt are not
    embedded again, and a finished model stays as it is. The call holds the fit's lease.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    resume : str, optional
        Id of a fit that this call has to continue.

    Raises
    ------
    ConfigError, RequestError, ArchiveError, ResourceError, HeldError, RunError
        See `padim_dist.errors`; each message says what to do.
    """
    started = time.monotonic()
    config = as_config(config)
    plan = plan_fit(config, listener, resume)
    workspace, jobs = plan.workspace, plan.jobs
    images = sum(job.size if merged else -job.size for job, merged in plan.merged())
    model = find_model(workspace, plan.model_id)
    if model is None:
        with hold(workspace, workspace.fit(plan.fit_id)) as lease:
            found = find_receipts(jobs)
            # What an earlier attempt could not reach may be there now.
            receipts = {path: receipt for path, receipt in found.items() if not receipt.unsettled}
            plan = plan.trying_again({*found} - {*receipts})
            embedded = sum(job.size for job in jobs if job.receipt not in receipts)
            receipts = _run(plan, receipts, config, lease.guard(listener))
        counts = _counts(plan, receipts)
    else:
        receipts, embedded, counts = find_receipts(jobs), 0, dict(model.counts)
        _ask_again(plan, model, config)
    failures: Counter[str] = Counter()
    for receipt in receipts.values():
        failures.update(receipt.failures)
    seconds = time.monotonic() - started
    warnings = [
        *plan.warnings,
        *fit_warnings(counts, plan, receipts, failures, images),
    ]
    for warning in warnings:
        logger.warning(warning)
    return FitResult(
        fit_id=plan.fit_id,
        model_id=plan.model_id,
        images=images,
        embedded=embedded,
        resumed=max(images - embedded, 0),
        failures=dict(failures),
        groups=counts,
        seconds=round(seconds, 2),
        images_per_second=round(embedded / seconds, 1),
        warnings=warnings,
    )


def _ask_again(plan: FitPlan, model: ModelInfo, config: Config) -> None:
    """Make a finished model the newest one of these settings.

    It may have been made with others (weights at another path), or before another model.
    """
    asked = model_settings(config)
    own = [info for info in list_models(plan.workspace) if asked in info.settings]
    if not own or own[-1] != model:
        settings = [*(known for known in model.settings if known != asked), asked]
        finish_model(plan.workspace, replace(model, settings=settings, asked_at=_now()))


def _run(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], config: Config, listener: Listener
) -> dict[str, PartReceipt]:
    """Embed the missing parts, factorise, calibrate, finish the model; return all receipts."""
    workspace, shape = plan.workspace, plan.embedding.shape
    missing = [job for job in plan.jobs if job.receipt not in receipts]
    groups = len({job.part.group for job in plan.jobs})
    images = [job.size for job in missing]
    disk = projection.fit_disk(plan.embedding, images, groups, config.fit.sample)
    projection.check_disk("fit", disk, plans.free_disk(workspace.folder), config.workspace)
    parts = [FitPart(job.part.group, job.receipt, job.snapshot, m) for job, m in plan.merged()]
    put_fit(workspace, FitHead(plan.fit_id, fit_settings(config), parts, _now()))
    most_tasks = max(len(plan.jobs), groups * len(bands(shape)))
    with open_workers(plan.cluster, most_tasks, listener) as workers:
        embedded = workers.map(embed_part, missing, "fit: embed")
        done = {**receipts, **{job.receipt: receipt for job, receipt in embedded}}
        _check_taken_out(plan)
        counts = _counts(plan, done)
        _check_readable(plan, done, counts)
        create_model(workspace, plan.model_id, shape, list(counts), band_cells(shape))
        workers.map(factorise_band, _factorise_jobs(plan, done, counts, config), "fit: factorise")
        if config.fit.sample:
            _calibrate(workers, leave_outs(plan, done, counts))
    workspace.folder.remove_tree(workspace.all_left_out(plan.model_id))
    now = _now()
    info = ModelInfo(
        model_id=plan.model_id,
        fit_id=plan.fit_id,
        snapshot=plan.snapshot.snapshot,
        embedding=plan.embedding,
        epsilon=config.model.epsilon,
        shrinkage=config.model.shrinkage,
        sigma=config.model.sigma,
        counts=counts,
        settings=[model_settings(config)],
        created_at=now,
        asked_at=now,
        versions={
            "python": platform.python_version(),
            **{one.__name__: one.__version__ for one in (torch, torchvision, numpy, zarr)},
        },
    )
    finish_model(workspace, info)
    return done


def _factorise_jobs(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int], config: Config
) -> list[FactoriseJob]:
    """Return the jobs for all bands of the model."""
    moments: dict[tuple[str, bool], list[str]] = {}
    for job, merged in plan.merged():
        moments.setdefault((job.part.group, merged), []).append(receipts[job.receipt].moments)
    return [
        FactoriseJob(
            workspace=plan.workspace,
            model_id=plan.model_id,
            group=group,
            parts=tuple(moments[group, True]),
            taken_out=tuple(moments.get((group, False), ())),
            shape=plan.embedding.shape,
            epsilon=config.model.epsilon,
            shrinkage=config.model.shrinkage,
            number=number,
            band=band,
        )
        for group in counts
        for number, band in enumerate(bands(plan.embedding.shape))
    ]


def _calibrate(workers: Workers, parts: list[LeaveOutJob]) -> None:
    """Calibrate groups: a map over their parts, then one over the groups."""
    by_group: dict[str, list[LeaveOutJob]] = {}
    for part in parts:
        by_group.setdefault(part.group, []).append(part)
    jobs = [
        CalibrateJob(own[0].workspace, own[0].model_id, group, tuple(part.receipt for part in own))
        for group, own in by_group.items()
    ]
    jobs = [job for job in jobs if job.find() is None]
    if parts:
        left_out = [part for job in jobs for part in by_group[job.group]]
        workers.map(leave_out_part, left_out, "fit: leave out")
        workers.map(calibrate_group, jobs, "fit: calibrate")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _counts(plan: FitPlan, receipts: Mapping[str, PartReceipt]) -> dict[str, int]:
    """Return images in the model by group, without empty groups."""
    counts: Counter[str] = Counter()
    for job, merged in plan.merged():
        fitted = receipts[job.receipt].fitted
        counts[job.part.group] += fitted if merged else -fitted
    return {group: count for group, count in counts.items() if count > 0}


def _check_taken_out(plan: FitPlan) -> None:
    """Refuse to subtract images that have changed since they were added."""
    jobs = {job.part: job for job in plan.jobs}
    for job, piece in zip(plan.jobs, plan.pieces, strict=True):
        if piece.out_of is None:
            continue
        images = {row.image_id for source in job.sources for row in source.read()}
        before = _unusable(jobs[piece.out_of], images)
        if differ := before ^ _unusable(job, images):
            shard = piece.part.shards[0]
            raise RequestError(
                f"shard {shard.shard} of manifest {piece.manifest} cannot be taken out of the fit: "
                f"after the fit {counted(len(differ), 'image')} of {len(images)} changed (gone or "
                "replaced). Leave out the whole day or entry of the history instead (fit.without)"
            )


def _unusable(job: EmbedJob, images: set[str]) -> set[str]:
    """Return which of these images are not in a part's moments."""
    receipt = job.kept()
    return images & receipt.unusable if receipt else images  # no image of it could be used


def _check_readable(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int]
) -> None:
    """Refuse a model without images."""
    if counts:
        return
    found = [receipts[job.receipt] for job in plan.jobs]
    example = next((receipt.example for receipt in found if receipt.example), None)
    raise ArchiveError(
        f"no readable normal image: all {sum(receipt.done for receipt in found)} failed, the "
        f"first with: {example}"
    )
