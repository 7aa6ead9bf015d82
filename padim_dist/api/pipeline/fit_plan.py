"""The plan of a fit: its parts and jobs, checked before work starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from padim_dist.api.pipeline.align.references import find_references
from padim_dist.api.pipeline.forgotten import find_forgotten, forgotten_notes
from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.pipeline.reviewed import apply_reviews
from padim_dist.api.pipeline.taken_out import (
    find_in_pieces,
    fitted_objects,
    only_objects,
    take_out,
)
from padim_dist.api.pipeline.window import Piece, choose_pieces
from padim_dist.api.settings import plans
from padim_dist.api.settings.aligned import aligning_ahead
from padim_dist.api.settings.lookup import check_resumed
from padim_dist.api.settings.moved import move_since_id
from padim_dist.api.settings.places import archive_settings, asked_settings, workspace_of
from padim_dist.api.settings.regions_of_interest import regions_of_shards
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.roi.groups import embedding_of, largest_embedding
from padim_dist.core.roi.runs import Runs
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.cluster.local import settle
from padim_dist.engine.fit import EmbedJob
from padim_dist.engine.memory import projection
from padim_dist.engine.parts import deal_parts
from padim_dist.errors import ArchiveError, RequestError
from padim_dist.events import Listener
from padim_dist.pages.words import counted, listed
from padim_dist.store.history import Entry, read_history
from padim_dist.store.image_objects import ImageObject, ids_of
from padim_dist.store.manifests import (
    Shard,
    Snapshot,
    find_images,
    images_by_group,
    read_manifest,
)
from padim_dist.store.models import asked_of_fit
from padim_dist.store.normals import Dropped
from padim_dist.store.weights import keep_weights
from padim_dist.store.workspace import Workspace, content_id

_AFTERWARDS = ("epsilon", "shrinkage", "sigma")
"""Settings of section model that do not change the moments."""


@dataclass(frozen=True)
class FitPlan:
    """A fit that has passed all checks.

    Attributes
    ----------
    snapshot : Snapshot
        The manifest of the whole archive.
    embedding : EmbeddingSpec
        The embedding of groups without a region of interest.
    inside : mapping of str to tuple of int
        Regions of interest of the other groups, as in `PyramidShape`.
    pieces, jobs : list of Piece, list of EmbedJob
        Parts to merge or to subtract, and the jobs that embed them, in the same order.
    fit_id, model_id : str
        Content addresses.
    cluster : ClusterConfig
        The cluster, with a number of workers that fits.
    references : mapping of str to str
        Content addresses of the references of groups, if images are aligned.
    """

    workspace: Workspace
    snapshot: Snapshot
    embedding: EmbeddingSpec
    inside: Mapping[str, Runs]
    pieces: list[Piece]
    jobs: list[EmbedJob]
    fit_id: str
    model_id: str
    sigma: float
    cluster: ClusterConfig
    warnings: list[str]
    references: Mapping[str, str]

    def embedding_of(self, group: str) -> EmbeddingSpec:
        """Return the embedding of a group."""
        return embedding_of(self.embedding, self.inside, group)

    def trying_again(self, receipts: Collection[str]) -> FitPlan:
        """Return the plan that embeds parts with these receipts once more, if that may help."""
        jobs = [replace(job, again=job.receipt in receipts) for job in self.jobs]
        return replace(self, jobs=jobs)

    def merged(self) -> Iterator[tuple[EmbedJob, bool]]:
        """Yield each job, and whether its moments are merged; otherwise they are subtracted."""
        for job, piece in zip(self.jobs, self.pieces, strict=True):
            yield job, piece.is_merged

    def without(self, dropped: Sequence[Dropped]) -> FitPlan:
        """Return the plan that also subtracts images that were dropped."""
        ids: dict[str, set[str]] = {}
        for one in dropped:
            ids.setdefault(one.manifest, set()).add(one.image_id)
        found = {
            (manifest, shard): images
            for manifest, wanted in ids.items()
            for shard, images in find_images(self.workspace, manifest, wanted).items()
        }
        pieces, _ = take_out(self.pieces, found, whole_parts=False)
        jobs = list(self.jobs)
        for piece in pieces[len(jobs) :]:
            own = (job for job in self.jobs if job.part.group == piece.part.group)
            like = next(job for job in own if job.snapshot == piece.manifest)
            job = replace(like, part=piece.part, images=piece.images, kept_in=(), again=False)
            jobs.append(_with_kept(job, piece, self.pieces, self.jobs))
        return replace(self, pieces=pieces, jobs=jobs)


def plan_fit(config: Config, listener: Listener, resume: str | None) -> FitPlan:
    """Check all that can be wrong before work starts, and return the plan.

    Raises
    ------
    ConfigError, RequestError, ArchiveError, ResourceError
        See `padim_dist.fit`.
    """
    spec = plans.plan_embedding(config)
    # A window is read from the increments; reviewed images are looked for in all shards.
    reads = config.fit.window is None or config.fit.reviewed
    snapshot = current_manifest(config, listener, shards=reads)
    pieces, notes = _take_out(config, snapshot, _pieces(config, snapshot))
    warnings = [*_check_groups(snapshot, pieces, config), *notes]
    state = plans.load_state(config)
    firsts = {one.part.group: (one.manifest, one.part.shards[0].shard) for one in pieces}
    groups = images_by_group(snapshot.shards)
    regions = regions_of_shards(config, spec, groups, firsts, listener)
    inside = {group: region.runs for group, region in regions.items()}
    sample = min(config.fit.sample, max(piece.part.images for piece in pieces))
    limits = (config.cluster.readers, config.archive.max_pixels, sample)
    largest = largest_embedding(spec, inside, firsts)
    need = projection.fit_need(largest, plans.state_bytes(state), *limits)
    cluster = settle(config.cluster, "fit", need)
    workspace = workspace_of(config)
    spec = replace(spec, weights=keep_weights(workspace, state))
    witnesses = plans.witnesses_of(config, snapshot)
    readings = {
        manifest: plans.reading_of(config, spec, move_since_id(config, manifest), witnesses)
        for manifest in {piece.manifest for piece in pieces}
    }
    references = find_references(config, pieces, readings, listener)
    jobs: list[EmbedJob] = []
    for piece in pieces:
        reference = references.get(piece.part.group)
        own = embedding_of(spec, inside, piece.part.group)
        job = EmbedJob(
            workspace=workspace,
            snapshot=piece.manifest,
            part=piece.part,
            embedding=own.with_reference(reference.digest) if reference else own,
            sample=config.fit.sample,
            reading=aligning_ahead(readings[piece.manifest], spec, reference),
            images=piece.images,
        )
        jobs.append(_with_kept(job, piece, pieces, jobs))
    # The parts' receipts are content addresses of all that determines their moments.
    taken = [[job.receipt, piece.is_merged] for job, piece in zip(jobs, pieces, strict=True)]
    fit_id = content_id({"parts": taken})
    started = asked_of_fit(workspace, resume) if resume else None
    check_resumed(workspace, resume, fit_id, started, fit_settings(config))
    model = {name: getattr(config.model, name) for name in _AFTERWARDS}
    if config.fit.suspects == "drop":
        model["suspects_share"] = config.fit.suspects_share
    return FitPlan(
        workspace=workspace,
        snapshot=snapshot,
        embedding=spec,
        inside=inside,
        pieces=pieces,
        jobs=jobs,
        fit_id=fit_id,
        model_id=content_id({"fit": fit_id, **model}),
        sigma=config.model.sigma,
        cluster=cluster,
        warnings=warnings,
        references={group: reference.digest for group, reference in references.items()},
    )


def _with_kept(
    job: EmbedJob, piece: Piece, pieces: Sequence[Piece], jobs: Sequence[EmbedJob]
) -> EmbedJob:
    """Return the job of images to subtract, which knows where their embeddings may be kept.

    `jobs` are those of the first pieces: all that are merged are among them.
    """
    if piece.is_merged or not piece.images:
        return job
    of = {
        (other.snapshot, other.part): other.receipt
        for other, of_other in zip(jobs, pieces, strict=False)
        if of_other.is_merged  # a piece that is subtracted may have the same part
    }
    return replace(job, kept_in=tuple(of[piece.manifest, part] for part in piece.out_of))


def _take_out(
    config: Config, snapshot: Snapshot, pieces: list[Piece]
) -> tuple[list[Piece], list[str]]:
    """Leave images out and take others in; return new pieces and notes for people.

    Raises
    ------
    RequestError
        If no piece has an image that ``fit.without`` names.
    """
    wanted, workspace = set(config.fit.without_images), workspace_of(config)
    forgotten = find_forgotten(config)
    pieces, defects, notes = _with_reviewed(config, snapshot, pieces)
    objects = forgotten | defects
    found = find_in_pieces(workspace, pieces, wanted | ids_of(objects))
    fitted = fitted_objects(pieces, found)
    pieces, left_out = take_out(pieces, only_objects(found, objects, wanted))
    notes += forgotten_notes(
        forgotten, fitted, {one for one in fitted - objects if one.image_id not in wanted}
    )
    if unknown := wanted - left_out:
        raise RequestError(
            f"fit.without names {listed(sorted(unknown))}, but no normal image of the fit has such "
            "an id. 'padim-dist suspects' and the view normals have the ids of all"
        )
    return pieces, notes


def find_normal(config: Config, snapshot: Snapshot, image_ids: Collection[str]) -> set[ImageObject]:
    """Return which of some images are normal images that a fit of a configuration would use.

    These are also images that join by their review; and those that are forgotten, or defects.
    """
    pieces, _, _ = _with_reviewed(config, snapshot, _pieces(config, snapshot))
    return fitted_objects(pieces, find_in_pieces(workspace_of(config), pieces, image_ids))


def _with_reviewed(
    config: Config, snapshot: Snapshot, pieces: list[Piece]
) -> tuple[list[Piece], frozenset[ImageObject], list[str]]:
    """Return pieces with those that join by their reviews, the defects among all, and notes."""
    if not config.fit.reviewed:
        return pieces, frozenset(), []
    joined, defects, notes = apply_reviews(workspace_of(config), snapshot, pieces)
    return [*pieces, *joined], defects, notes


def _pieces(config: Config, snapshot: Snapshot) -> list[Piece]:
    """Return the parts of the manifest, or of the window's increments."""
    if config.fit.window is None:
        parts = deal_parts(snapshot.shards, config.fit.parts)
        return [Piece(snapshot.snapshot, part) for part in parts]
    workspace = workspace_of(config)
    increments: dict[Entry, list[Shard]] = {}
    for entry in read_history(workspace, archive_settings(config))[-config.fit.window :]:
        if entry.increment is not None:
            if (came := read_manifest(workspace, entry.increment)) is None:
                raise RequestError(
                    f"manifest {workspace.at(workspace.manifest(entry.increment))} of entry "
                    f"{entry.number} of the history is gone; restore it, or lower fit.window"
                )
            increments[entry] = came.shards
    return choose_pieces(increments, config.fit.without_parts, config.fit.parts)


def fit_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine a fit's moments."""
    settings = asked_settings(config)
    del settings["score"]
    for name in _AFTERWARDS:
        del settings["model"][name]
    return settings


def _check_groups(snapshot: Snapshot, pieces: Sequence[Piece], config: Config) -> list[str]:
    """Refuse a fit without images; return a warning about groups that get no model."""
    images = images_by_group(snapshot.shards)
    fit, archive = config.fit, config.archive
    if not images:
        raise ArchiveError(
            f"none of {counted(snapshot.images, 'image')} matches archive.group "
            f"{archive.group!r}; it is searched in the path inside the archive"
        )
    fitted = {piece.part.group for piece in pieces}
    without = [group for group in images if group not in fitted]
    if not without:
        return []
    what = "train/good" if archive.layout == "mvtec" else f"archive.train {archive.train!r}"
    where = f" in the last {fit.window} entries of the history" if fit.window else ""
    found = (
        f"no normal image{where} in {len(without)} of {counted(len(images), 'group')} "
        f"({listed(map(repr, without))}): a group needs images that match {what}"
    )
    if not fitted:
        raise ArchiveError(found)
    return [f"{found}. They are left out of the model"]
