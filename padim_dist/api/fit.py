"""Fit: from the manifest's normal images to a model."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy
import torch
import torchvision
import zarr

from padim_dist.api import common
from padim_dist.api.index import current_manifest
from padim_dist.api.places import logger, workspace_of
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.engine import projection
from padim_dist.engine.cluster import open_client, settle
from padim_dist.engine.fit import (
    EmbedJob,
    FactoriseJob,
    Part,
    PartReceipt,
    bands,
    deal_parts,
    embed_parts,
    factorise_bands,
    find_receipts,
)
from padim_dist.errors import ArchiveError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.manifests import Snapshot, images_by_group
from padim_dist.store.models import ModelInfo, finish_model, list_models, read_info
from padim_dist.store.weights import keep_weights
from padim_dist.store.workspace import Workspace, content_id


@dataclass(frozen=True)
class FitResult:
    """What a fit did.

    Attributes
    ----------
    fit_id, model_id : str
        Content addresses of the moments, and of the model made from them.
    images : int
        Normal images of the manifest.
    embedded, resumed : int
        Of those, handled now, and found done by an earlier fit.
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
    plan = _plan(config, listener, resume)
    folder, jobs = plan.workspace.folder, plan.jobs
    images = sum(job.size for job in jobs)
    model = read_info(folder, plan.workspace.model(plan.model_id))
    if model is None:
        with hold(folder, plan.workspace.fit(plan.fit_id)) as lease:
            receipts = find_receipts(jobs)
            resumed = sum(receipt.done for receipt in receipts.values())
            receipts = _run(plan, receipts, config, lease.guard(listener))
        counts = _counts(jobs, receipts)
    else:
        receipts = find_receipts(jobs)
        resumed = images
        counts = dict(model.counts)
        _ask_again(plan, model, config)
    failures: Counter[str] = Counter()
    for receipt in receipts.values():
        failures.update(receipt.failures)
    seconds = time.monotonic() - started
    warnings = _warnings(counts, plan.embedding, failures, images)
    for warning in warnings:
        logger.warning(warning)
    return FitResult(
        fit_id=plan.fit_id,
        model_id=plan.model_id,
        images=images,
        embedded=images - resumed,
        resumed=resumed,
        failures=dict(failures),
        groups=counts,
        seconds=round(seconds, 2),
        images_per_second=round((images - resumed) / seconds, 1),
        warnings=warnings,
    )


def _ask_again(plan: _Plan, model: ModelInfo, config: Config) -> None:
    """Make a finished model the one that these settings stand for, if it is not.

    It may have been asked for in other words (the same weights at another path), or
    another one may have been fitted since (on images that are gone again).
    """
    asked = common.model_settings(config)
    own = [info for info in list_models(plan.workspace) if asked in info.settings]
    if not own or own[-1] != model:
        settings = [*(known for known in model.settings if known != asked), asked]
        again = replace(model, settings=settings, asked_at=_now())
        finish_model(plan.workspace.folder, plan.workspace.model(plan.model_id), again)


@dataclass(frozen=True)
class _Plan:
    """A fit that was found to be possible."""

    workspace: Workspace
    snapshot: Snapshot
    embedding: EmbeddingSpec
    jobs: list[EmbedJob]
    fit_id: str
    model_id: str
    cluster: ClusterConfig


def _plan(config: Config, listener: Listener, resume: str | None) -> _Plan:
    """Look at everything that can be wrong before work starts, and deal the work out."""
    spec = common.plan_embedding(config)
    snapshot = current_manifest(config, listener)
    _check_groups(snapshot, config)
    parts = deal_parts(snapshot.shards, config.fit.parts)
    state = common.load_state(config)
    need = projection.fit_need(
        spec, common.state_bytes(state), config.cluster.readers, config.archive.max_pixels
    )
    cluster = settle(config.cluster, "fit", need)
    workspace = workspace_of(config)
    spec = replace(spec, weights=keep_weights(workspace, state))
    fit_id = _fit_id(spec, parts, config)
    common.check_resumed(workspace, _head(workspace, str(resume)), resume, fit_id, _asked(config))
    jobs = [
        EmbedJob(
            workspace=workspace.folder,
            fit_id=fit_id,
            snapshot=snapshot.snapshot,
            part=part,
            embedding=spec,
            reading=common.reading_of(config),
            threads=config.cluster.threads,
        )
        for part in parts
    ]
    model = {"fit": fit_id, "epsilon": config.model.epsilon, "sigma": config.model.sigma}
    return _Plan(workspace, snapshot, spec, jobs, fit_id, content_id(model), cluster)


def _asked(config: Config) -> dict[str, Any]:
    """Settings that determine a fit's moments, which know of no epsilon and no sigma."""
    settings = common.asked_settings(config)
    del settings["score"], settings["model"]["epsilon"], settings["model"]["sigma"]
    return settings


def _head(workspace: Workspace, fit_id: str) -> str:
    """Where it is written what a fit was asked for."""
    return f"{workspace.fit(fit_id)}/fit.json"


def _run(
    plan: _Plan, receipts: Mapping[str, PartReceipt], config: Config, listener: Listener
) -> dict[str, PartReceipt]:
    """Embed what has no receipt, factorise, and finish the model; all receipts."""
    folder, shape = plan.workspace.folder, plan.embedding.shape
    missing = [job for job in plan.jobs if job.receipt not in receipts]
    groups = list(dict.fromkeys(job.part.group for job in plan.jobs))
    disk = projection.fit_disk(plan.embedding, len(missing), len(groups))
    projection.check_disk("fit", disk, common.free_disk(folder), config.workspace)
    tasks = len(groups) * len(bands(shape))
    head = {"fit_id": plan.fit_id, "asked": _asked(config), "started_at": _now()}
    folder.create_json(_head(plan.workspace, plan.fit_id), head)
    most = plan.cluster.most_workers
    with open_client(plan.cluster, max(len(missing), tasks)) as client:
        done = {**receipts, **embed_parts(client, missing, listener, most)}
        _check_readable(plan.jobs, done)
        parts: dict[str, list[str]] = {group: [] for group in groups}
        for job in plan.jobs:
            parts[job.part.group].append(done[job.receipt].moments)
        work = [
            FactoriseJob(
                workspace=folder,
                model_id=plan.model_id,
                group=group,
                parts=tuple(parts[group]),
                shape=shape,
                epsilon=config.model.epsilon,
                number=number,
                band=band,
                threads=config.cluster.threads,
            )
            for group in groups
            for number, band in enumerate(bands(shape))
        ]
        factorise_bands(client, work, listener, most)
    info = ModelInfo(
        model_id=plan.model_id,
        fit_id=plan.fit_id,
        snapshot=plan.snapshot.snapshot,
        embedding=plan.embedding,
        epsilon=config.model.epsilon,
        sigma=config.model.sigma,
        counts=_counts(plan.jobs, done),
        settings=[common.model_settings(config)],
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


def _fit_id(spec: EmbeddingSpec, parts: Sequence[Part], config: Config) -> str:
    """Content address of a fit's moments: the embedding and the rows of each part."""
    dealt = [[part.group, *(shard.digest for shard in part.shards)] for part in parts]
    return content_id(
        {
            "embedding": spec.to_dict(),
            "parts": dealt,
            "max_pixels": config.archive.max_pixels,
        }
    )


def _counts(jobs: Sequence[EmbedJob], receipts: Mapping[str, PartReceipt]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for job in jobs:
        counts[job.part.group] += receipts[job.receipt].fitted
    return dict(counts)


def _check_groups(snapshot: Snapshot, config: Config) -> None:
    """Refuse a fit that would leave a group without a model."""
    images = images_by_group(snapshot.shards)
    if not images:
        raise ArchiveError(
            f"none of {snapshot.images} images matches archive.group {config.archive.group!r}; it "
            "is searched in the path inside the archive"
        )
    without = [group for group, counts in images.items() if not counts["train"]]
    if without:
        shown = ", ".join(repr(group) for group in without[:8])
        what = (
            f"archive.train {config.archive.train!r}"
            if config.archive.layout == "folder"
            else "train/good"
        )
        raise ArchiveError(
            f"no normal image in {len(without)} of {len(images)} groups ({shown}"
            f"{', ...' if len(without) > 8 else ''}): a group needs images that match {what}"
        )


def _check_readable(jobs: Sequence[EmbedJob], receipts: Mapping[str, PartReceipt]) -> None:
    for group, count in _counts(jobs, receipts).items():
        if count == 0:
            own = [receipts[job.receipt] for job in jobs if job.part.group == group]
            example = next((receipt.example for receipt in own if receipt.example), None)
            raise ArchiveError(
                f"no readable normal image in group {group!r}: all "
                f"{sum(receipt.done for receipt in own)} failed, the first with: {example}"
            )


def _warnings(
    counts: Mapping[str, int], spec: EmbeddingSpec, failures: Mapping[str, int], images: int
) -> list[str]:
    found = []
    few = {group: n for group, n in counts.items() if n <= spec.shape.depth}
    if few:
        shown = ", ".join(f"{group!r} {n}" for group, n in list(few.items())[:8])
        found.append(
            f"{len(few)} of {len(counts)} groups have no more images than the embedding has "
            f"channels ({spec.shape.depth}): {shown}. Their covariances rest on model.epsilon"
        )
    if failures:
        kinds = ", ".join(f"{n} {status}" for status, n in sorted(failures.items()))
        found.append(
            f"{sum(failures.values())} of {images} normal images are not in the model "
            f"({kinds}); the receipts of the parts list them"
        )
    return found
