"""Fit: make a model from the manifest's normal images."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy
import torch
import zarr

from padim_dist.api.pipeline.align.positions import positions, unaligned_warnings
from padim_dist.api.pipeline.chosen.taken_out import check_taken_out
from padim_dist.api.pipeline.drop import TAKE_OUT, drop_suspects, remove_trials, remove_unfinished
from padim_dist.api.pipeline.fit_plan import FitPlan, fit_settings, plan_fit
from padim_dist.api.pipeline.stages import calibrate, count_images, factorise, leave_out
from padim_dist.api.pipeline.warnings import fit_warnings, suspect_warnings
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import ConfigLike, as_config, logger, model_settings
from padim_dist.api.settings.resolution import beyond_resolution, smallest_p_values
from padim_dist.config import Config
from padim_dist.core.roi.groups import largest_embedding
from padim_dist.engine.factorise import bands
from padim_dist.engine.fit import embed_part, find_receipts
from padim_dist.engine.memory import projection
from padim_dist.engine.part_receipt import PartReceipt
from padim_dist.engine.score_job import packages_of
from padim_dist.engine.workers import open_workers
from padim_dist.errors import ArchiveError
from padim_dist.events import Listener, ignore
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
from padim_dist.store.normals import Dropped
from padim_dist.vision import torchvision


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
    smallest_p_values : mapping of str to float
        Smallest p-value of each group that is not extrapolated.
    suspects, dropped : mapping of str to int
        Images in the model that all others find anomalous, and images that were dropped as such,
        in groups that have any.
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
    smallest_p_values: dict[str, float]
    suspects: dict[str, int]
    dropped: dict[str, int]
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
    merged = list(plan.merged())
    images = sum(job.size if is_merged else -job.size for job, is_merged in merged)
    model = find_model(workspace, plan.model_id)
    if model is None:
        with hold(workspace, workspace.fit(plan.fit_id)) as lease:
            # A prune that removes moments then sees that they are needed, or they are gone already.
            parts = [FitPart(one.part.group, one.receipt, one.snapshot, m) for one, m in merged]
            put_fit(workspace, FitHead(plan.fit_id, fit_settings(config), parts, _now()))
            found = find_receipts(jobs)
            # What an earlier attempt could not reach may be there now.
            receipts = {path: receipt for path, receipt in found.items() if not receipt.unsettled}
            plan = plan.trying_again({*found} - {*receipts})
            embedded = sum(job.size for job in jobs if job.receipt not in receipts)
            receipts, model = _run(plan, receipts, config, lease.guard(listener))
    else:
        receipts, embedded = find_receipts(jobs), 0
        _ask_again(plan, model, config)
    counts = dict(model.counts)
    failures: Counter[str] = Counter()
    for receipt in receipts.values():
        failures.update(receipt.failures)
    seconds = time.monotonic() - started
    warnings = [
        *plan.warnings,
        *fit_warnings(counts, plan, receipts, failures, images),
        *unaligned_warnings(model),
        *suspect_warnings(config, model),
        *filter(None, [beyond_resolution(config, model.calibrated)]),
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
        smallest_p_values=smallest_p_values(model.calibrated),
        suspects=dict(model.suspects or {}),
        dropped=dict(model.dropped),
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
) -> tuple[dict[str, PartReceipt], ModelInfo]:
    """Embed the missing parts, factorise, calibrate, finish the model; return all receipts."""
    workspace, asked = plan.workspace, plan
    missing = [job for job in plan.jobs if job.receipt not in receipts]
    if missing:
        remove_unfinished(plan)
    groups = len({job.part.group for job in plan.jobs})
    drops = config.fit.suspects == "drop"
    # A trial model, and the moments of what it drops, are there beside the model.
    models, images = groups * (3 if drops else 1), [j.size for j in missing if not j.kept_in]
    largest = largest_embedding(plan.embedding, plan.inside, {job.part.group for job in plan.jobs})
    disk = projection.fit_disk(
        largest, images, len(missing) - len(images), models, config.fit.sample
    )
    projection.check_disk("fit", disk, plans.free_disk(workspace.folder), config.workspace)
    most_tasks = max(len(plan.jobs), groups * len(bands(plan.embedding.shape)))
    dropped: dict[str, list[Dropped]] = {}
    with open_workers(plan.cluster, most_tasks, listener) as workers:
        done = dict(receipts)
        # Images that are taken out again are looked for in what their parts have kept.
        for jobs, stage in (
            ([job for job in missing if not job.kept_in], "fit: embed"),
            ([job for job in missing if job.kept_in], TAKE_OUT),
        ):
            if jobs or stage != TAKE_OUT:
                done |= {job.receipt: one for job, one in workers.map(embed_part, jobs, stage)}
        check_taken_out(plan.jobs, plan.pieces)
        _check_readable(plan, done, count_images(plan, done))
        if drops:
            plan, done, dropped = drop_suspects(workers, plan, done, config)
        counts = count_images(plan, done)
        factorise(workers, plan, done, counts, config, "fit: factorise")
        left_out = leave_out(workers, plan, done, counts, config, "fit: leave out")
        outcomes = calibrate(workers, plan, done, left_out, dropped)
    workspace.folder.remove_tree(workspace.all_left_out(plan.model_id))
    now, films = _now(), config.archive.layout == "video"
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
            **{name: version(name) for name in packages_of(plan.embedding, films)},
        },
        suspects={group: one.suspects for group, one in outcomes.items() if one.suspects},
        calibrated={group: one.images for group, one in outcomes.items() if one.images},
        dropped={group: len(own) for group, own in dropped.items()},
        references={group: one for group, one in plan.references.items() if group in counts},
        positions=positions(plan, done) if plan.embedding.align else {},
        inside={group: plan.inside[group] for group in counts if group in plan.inside},
    )
    finish_model(workspace, info)
    if drops:
        remove_trials(plan, done, len(asked.jobs))
    return done, info


def _now() -> str:
    return datetime.now(UTC).isoformat()


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
