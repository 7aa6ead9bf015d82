"""Fit: from the manifest's normal images to a model."""

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

from padim_dist.api.pipeline.fit_plan import FitPlan, asked_of_fit, head_path, plan_fit
from padim_dist.api.pipeline.warnings import fit_warnings, leave_outs
from padim_dist.api.settings import plans
from padim_dist.api.settings.places import logger
from padim_dist.config import Config
from padim_dist.engine import projection
from padim_dist.engine.calibrate import calibrate_groups
from padim_dist.engine.cluster.local import open_client
from padim_dist.engine.factorise import FactoriseJob, bands, factorise_bands
from padim_dist.engine.fit import (
    EmbedJob,
    PartReceipt,
    embed_parts,
    find_receipts,
    unusable_images,
)
from padim_dist.errors import ArchiveError, RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.models import ModelInfo, finish_model, list_models, read_info


@dataclass(frozen=True)
class FitResult:
    """What a fit did.

    Attributes
    ----------
    fit_id, model_id : str
        Content addresses of the moments, and of the model made from them.
    images : int
        Normal images that were asked for: of the manifest, or of the window.
    embedded, resumed : int
        Images read now, and those found done by an earlier fit.
    failures : mapping of str to int
        Images that could not be used, by status.
    groups : mapping of str to int
        Images in the model, by group.
    seconds, images_per_second : float
        Of this call, start-up of the cluster included.
    warnings : list of str
        What to know about the model.
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


def fit(config: Config, listener: Listener = ignore, resume: str | None = None) -> FitResult:
    """Fit the Gaussians of every group on its normal images.

    A second call with the same settings and archive resumes: parts that have a
    receipt are not embedded again, and a finished model is left as it is. While it
    works it holds the fit's lease.

    Parameters
    ----------
    config : Config
        The configuration.
    listener : callable, optional
        Is told what happens.
    resume : str, optional
        Id of a fit that this one must be a continuation of.

    Raises
    ------
    ConfigError, RequestError, ArchiveError, ResourceError, HeldError, RunError
        See there; each message says what to do.
    """
    started = time.monotonic()
    plan = plan_fit(config, listener, resume)
    folder, jobs = plan.workspace.folder, plan.jobs
    images = sum(job.size if merged else -job.size for job, merged in plan.merged())
    model = read_info(folder, plan.workspace.model(plan.model_id))
    if model is None:
        with hold(folder, plan.workspace.fit(plan.fit_id)) as lease:
            receipts = find_receipts(jobs)
            embedded = sum(job.size for job in jobs if job.receipt not in receipts)
            receipts = _run(plan, receipts, config, lease.guard(listener))
        counts = _counts(plan, receipts)
    else:
        receipts = find_receipts(jobs)
        embedded = 0
        counts = dict(model.counts)
        _ask_again(plan, model, config)
    failures: Counter[str] = Counter()
    for receipt in receipts.values():
        failures.update(receipt.failures)
    seconds = time.monotonic() - started
    warnings = [*plan.warnings, *fit_warnings(counts, plan, failures, images)]
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
    """Make a finished model the one that these settings stand for, if it is not.

    It may have been asked for in other words (the same weights at another path), or
    another one may have been fitted since (on images that are gone again).
    """
    asked = plans.model_settings(config)
    own = [info for info in list_models(plan.workspace) if asked in info.settings]
    if not own or own[-1] != model:
        settings = [*(known for known in model.settings if known != asked), asked]
        again = replace(model, settings=settings, asked_at=_now())
        finish_model(plan.workspace.folder, plan.workspace.model(plan.model_id), again)


def _run(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], config: Config, listener: Listener
) -> dict[str, PartReceipt]:
    """Embed what has no receipt, factorise, and finish the model; all receipts."""
    folder, shape = plan.workspace.folder, plan.embedding.shape
    missing = [job for job in plan.jobs if job.receipt not in receipts]
    groups = list(dict.fromkeys(job.part.group for job in plan.jobs))
    most = plan.cluster.most_workers
    images = [job.size for job in missing]
    disk = projection.fit_disk(plan.embedding, images, len(groups), config.fit.sample)
    projection.check_disk("fit", disk, plans.free_disk(folder), config.workspace)
    tasks = len(groups) * len(bands(shape))
    parts = [
        {
            "group": job.part.group,
            "receipt": job.receipt,
            "manifest": job.snapshot,
            "merged": merged,
        }
        for job, merged in plan.merged()
    ]
    head = {
        "fit_id": plan.fit_id,
        "asked": asked_of_fit(config),
        "parts": parts,
        "started_at": _now(),
    }
    folder.create_json(head_path(plan.workspace, plan.fit_id), head)
    with open_client(plan.cluster, max(len(plan.jobs), tasks)) as client:
        done = {**receipts, **embed_parts(client, missing, listener, most)}
        _check_taken_out(plan)
        counts = _counts(plan, done)
        _check_readable(plan, done, counts)
        moments: dict[tuple[str, bool], list[str]] = {}
        for job, merged in plan.merged():
            moments.setdefault((job.part.group, merged), []).append(done[job.receipt].moments)
        work = [
            FactoriseJob(
                workspace=folder,
                model_id=plan.model_id,
                group=group,
                parts=tuple(moments[group, True]),
                taken_out=tuple(moments.get((group, False), ())),
                shape=shape,
                epsilon=config.model.epsilon,
                shrinkage=config.model.shrinkage,
                number=number,
                band=band,
                threads=config.cluster.threads,
            )
            for group in counts
            for number, band in enumerate(bands(shape))
        ]
        factorise_bands(client, work, listener, most)
        if config.fit.sample:
            left_out = leave_outs(plan, done, counts, config.cluster.threads)
            calibrate_groups(client, left_out, listener, most)
    folder.remove_tree(plan.workspace.all_left_out(plan.model_id))
    info = ModelInfo(
        model_id=plan.model_id,
        fit_id=plan.fit_id,
        snapshot=plan.snapshot.snapshot,
        embedding=plan.embedding,
        epsilon=config.model.epsilon,
        shrinkage=config.model.shrinkage,
        sigma=config.model.sigma,
        counts=counts,
        settings=[plans.model_settings(config)],
        created_at=(now := _now()),
        asked_at=now,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": numpy.__version__,
            "zarr": zarr.__version__,
        },
    )
    finish_model(folder, plan.workspace.model(plan.model_id), info)
    return done


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _counts(plan: FitPlan, receipts: Mapping[str, PartReceipt]) -> dict[str, int]:
    """Images in the model, by group; groups without any are left out."""
    counts: Counter[str] = Counter()
    for job, merged in plan.merged():
        fitted = receipts[job.receipt].fitted
        counts[job.part.group] += fitted if merged else -fitted
    return {group: count for group, count in counts.items() if count > 0}


def _check_taken_out(plan: FitPlan) -> None:
    """Refuse to subtract other images than were added: what was taken in must be there still."""
    jobs = {job.part: job for job in plan.jobs}
    for job, piece in zip(plan.jobs, plan.pieces, strict=True):
        if piece.out_of is None:
            continue
        images = {row["image_id"] for examination in job.examinations for row in examination.rows()}
        before = _unusable(jobs[piece.out_of], images)
        differ = before ^ _unusable(job, images)
        if differ:
            shard = piece.part.shards[0]
            raise RequestError(
                f"shard {shard.shard} of manifest {piece.manifest} cannot be taken out of the fit: "
                f"{len(differ)} of its {len(images)} images are not what they were when they were "
                "fitted (gone or replaced). Leave out the whole day or entry of the history "
                "instead (fit.without)"
            )


def _unusable(job: EmbedJob, images: set[str]) -> set[str]:
    """Which of these images are not in a part's moments."""
    if not job.workspace.exists(job.receipt):  # no image of it could be used
        return images
    return unusable_images(job) & images


def _check_readable(
    plan: FitPlan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int]
) -> None:
    """Refuse a model of nothing."""
    if counts:
        return
    found = [receipts[job.receipt] for job in plan.jobs]
    example = next((receipt.example for receipt in found if receipt.example), None)
    raise ArchiveError(
        f"no readable normal image: all {sum(receipt.done for receipt in found)} failed, the "
        f"first with: {example}"
    )
