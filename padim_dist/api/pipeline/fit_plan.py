"""The plan of a fit: its parts and jobs, checked before work starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from padim_dist.api.pipeline.align.references import find_references
from padim_dist.api.pipeline.chosen.pieces import check_groups, pieces_of, take_out_and_in
from padim_dist.api.pipeline.chosen.taken_out import (
    take_out,
)
from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.pipeline.engines.networks import Images, keep_trunk
from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.settings import plans
from padim_dist.api.settings.aligned import aligning_ahead
from padim_dist.api.settings.lookup import check_resumed
from padim_dist.api.settings.moved import move_since_id
from padim_dist.api.settings.places import asked_settings, workspace_of
from padim_dist.api.settings.regions_of_interest import regions_of_shards
from padim_dist.config import ClusterConfig, Config
from padim_dist.core.roi.groups import embedding_of, largest_embedding
from padim_dist.core.roi.runs import Runs
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.cluster.local import settle
from padim_dist.engine.fit import EmbedJob
from padim_dist.engine.memory import projection
from padim_dist.events import Listener
from padim_dist.store.manifests import (
    Snapshot,
    find_images,
    images_by_group,
)
from padim_dist.store.models import asked_of_fit
from padim_dist.store.normals import Dropped
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
    pieces, notes = take_out_and_in(config, snapshot, pieces_of(config, snapshot))
    warnings = [*check_groups(snapshot, pieces, config), *notes]
    state = plans.load_state(config, spec.trunk)
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
    witnesses = plans.witnesses_of(config, snapshot)
    readings = {
        manifest: plans.reading_of(config, spec, move_since_id(config, manifest), witnesses)
        for manifest in {piece.manifest for piece in pieces}
    }
    references = find_references(config, pieces, readings, listener)
    started = asked_of_fit(workspace, resume) if resume else None
    images = Images(pieces, readings, references, cluster)
    weights = keep_trunk(config, spec, state, images, listener, makes=resume is None)
    if weights is None:
        asked, otherwise = fit_settings(config), "its network, which networks/ has no more"
        check_resumed(workspace, resume, "another fit", started, asked, otherwise)
    assert weights is not None
    spec = replace(spec, weights=weights)
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


def fit_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine a fit's moments."""
    settings = asked_settings(config)
    del settings["score"]
    for name in _AFTERWARDS:
        del settings["model"][name]
    return settings
