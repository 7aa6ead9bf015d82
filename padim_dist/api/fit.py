"""Fit: from the manifest's normal images to a model."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy
import torch
import torchvision
import zarr

from padim_dist.api import common
from padim_dist.api.index import current_manifest
from padim_dist.api.places import archive_settings, logger, workspace_of
from padim_dist.api.window import Piece, choose_pieces
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.embedding import EmbeddingSpec
from padim_dist.engine import projection
from padim_dist.engine.cluster import open_client, settle
from padim_dist.engine.fit import (
    EmbedJob,
    FactoriseJob,
    PartReceipt,
    bands,
    deal_parts,
    embed_parts,
    factorise_bands,
    find_receipts,
    unusable_images,
)
from padim_dist.errors import ArchiveError, RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.history import Entry, read_history
from padim_dist.store.lease import hold
from padim_dist.store.manifests import Shard, Snapshot, images_by_group, read_manifest
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
    plan = _plan(config, listener, resume)
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
    warnings = [*plan.warnings, *_warnings(counts, plan, failures, images)]
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
    pieces: list[Piece]
    jobs: list[EmbedJob]
    fit_id: str
    model_id: str
    cluster: ClusterConfig
    warnings: list[str]

    def merged(self) -> Iterator[tuple[EmbedJob, bool]]:
        """The jobs, and whether their moments are merged; else they are taken out again."""
        for job, piece in zip(self.jobs, self.pieces, strict=True):
            yield job, piece.out_of is None


def _plan(config: Config, listener: Listener, resume: str | None) -> _Plan:
    """Look at everything that can be wrong before work starts, and deal the work out."""
    spec = common.plan_embedding(config)
    snapshot = current_manifest(config, listener)
    pieces = _pieces(config, snapshot)
    warnings = _check_groups(snapshot, pieces, config)
    state = common.load_state(config)
    need = projection.fit_need(
        spec, common.state_bytes(state), config.cluster.readers, config.archive.max_pixels
    )
    cluster = settle(config.cluster, "fit", need)
    workspace = workspace_of(config)
    spec = replace(spec, weights=keep_weights(workspace, state))
    jobs = [
        EmbedJob(
            workspace=workspace.folder,
            snapshot=piece.manifest,
            part=piece.part,
            embedding=spec,
            reading=common.reading_of(config, spec.geometry),
            threads=config.cluster.threads,
        )
        for piece in pieces
    ]
    # The parts' receipts are content addresses of all that determines their moments.
    taken = [[job.receipt, piece.out_of is None] for job, piece in zip(jobs, pieces, strict=True)]
    fit_id = content_id({"parts": taken})
    common.check_resumed(workspace, _head(workspace, str(resume)), resume, fit_id, _asked(config))
    model = {"fit": fit_id, "epsilon": config.model.epsilon, "sigma": config.model.sigma}
    return _Plan(
        workspace=workspace,
        snapshot=snapshot,
        embedding=spec,
        pieces=pieces,
        jobs=jobs,
        fit_id=fit_id,
        model_id=content_id(model),
        cluster=cluster,
        warnings=warnings,
    )


def _pieces(config: Config, snapshot: Snapshot) -> list[Piece]:
    """What the fit is made of: parts of the manifest, or of the window's increments."""
    if config.fit.window is None:
        parts = deal_parts(snapshot.shards, config.fit.parts)
        return [Piece(snapshot.snapshot, part) for part in parts]
    folder = workspace_of(config).folder
    increments: dict[Entry, list[Shard]] = {}
    for entry in read_history(folder, archive_settings(config))[-config.fit.window :]:
        if entry.increment is not None:
            came = read_manifest(folder, entry.increment)
            if came is None:
                raise RequestError(
                    f"{folder.at('manifests', entry.increment)} is gone, which entry "
                    f"{entry.number} of the history needs; put it back, or set a smaller fit.window"
                )
            increments[entry] = came.shards
    return choose_pieces(increments, config.fit.without, config.fit.parts)


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
    most = plan.cluster.most_workers
    disk = projection.fit_disk(plan.embedding, len(missing), len(groups))
    projection.check_disk("fit", disk, common.free_disk(folder), config.workspace)
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
        "asked": _asked(config),
        "parts": parts,
        "started_at": _now(),
    }
    folder.create_json(_head(plan.workspace, plan.fit_id), head)
    with open_client(plan.cluster, max(len(missing), tasks)) as client:
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
                number=number,
                band=band,
                threads=config.cluster.threads,
            )
            for group in counts
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
        counts=counts,
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


def _counts(plan: _Plan, receipts: Mapping[str, PartReceipt]) -> dict[str, int]:
    """Images in the model, by group; groups without any are left out."""
    counts: Counter[str] = Counter()
    for job, merged in plan.merged():
        fitted = receipts[job.receipt].fitted
        counts[job.part.group] += fitted if merged else -fitted
    return {group: count for group, count in counts.items() if count > 0}


def _check_groups(snapshot: Snapshot, pieces: Sequence[Piece], config: Config) -> list[str]:
    """Refuse a fit of nothing; say which groups will be left without a model."""
    images = images_by_group(snapshot.shards)
    fit, archive = config.fit, config.archive
    if not images:
        raise ArchiveError(
            f"none of {snapshot.images} images matches archive.group {archive.group!r}; it "
            "is searched in the path inside the archive"
        )
    fitted = {piece.part.group for piece in pieces}
    without = [group for group in images if group not in fitted]
    if not without:
        return []
    shown = ", ".join(repr(group) for group in without[:8])
    what = "train/good" if archive.layout == "mvtec" else f"archive.train {archive.train!r}"
    where = f" in the last {fit.window} entries of the history" if fit.window else ""
    found = (
        f"no normal image{where} in {len(without)} of {len(images)} groups ({shown}"
        f"{', ...' if len(without) > 8 else ''}): a group needs images that match {what}"
    )
    if not fitted:
        raise ArchiveError(found)
    return [f"{found}. They are left out of the model"]


def _check_taken_out(plan: _Plan) -> None:
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
    plan: _Plan, receipts: Mapping[str, PartReceipt], counts: Mapping[str, int]
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


def _warnings(
    counts: Mapping[str, int], plan: _Plan, failures: Mapping[str, int], images: int
) -> list[str]:
    found = []
    depth = plan.embedding.shape.depth
    few = {group: n for group, n in counts.items() if n <= depth}
    if few:
        shown = ", ".join(f"{group!r} {n}" for group, n in list(few.items())[:8])
        found.append(
            f"{len(few)} of {len(counts)} groups have no more images than the embedding has "
            f"channels ({depth}): {shown}. Their covariances rest on model.epsilon"
        )
    lost = sorted({job.part.group for job in plan.jobs} - set(counts))
    if lost:
        found.append(
            f"no normal image could be read of {len(lost)} groups "
            f"({', '.join(map(repr, lost[:8]))}): they are left out of the model"
        )
    if failures:
        kinds = ", ".join(f"{n} {status}" for status, n in sorted(failures.items()))
        found.append(
            f"{sum(failures.values())} of {images} normal images are not in the model "
            f"({kinds}); the receipts of the parts list them"
        )
    return found
