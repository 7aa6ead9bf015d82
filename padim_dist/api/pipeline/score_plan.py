"""The plan of a score: its run, shards and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from padim_dist.api.settings import plans
from padim_dist.api.settings.aligned import aligning_ahead, references_of
from padim_dist.api.settings.moved import move_since
from padim_dist.api.settings.places import asked_settings, logger, run_settings, workspace_of
from padim_dist.api.settings.rules import plan_alarms
from padim_dist.config import Config
from padim_dist.core.alarms import Alarms
from padim_dist.core.engines.packages import check_engine
from padim_dist.core.status import NO_MODEL, SCORED
from padim_dist.engine.drift import DriftJob
from padim_dist.engine.score_job import ScoreJob
from padim_dist.errors import RequestError
from padim_dist.pages.words import counted, listed
from padim_dist.store.manifests import Shard, Snapshot, images_by_group
from padim_dist.store.models import ModelInfo
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import ShardCounts
from padim_dist.store.workspace import content_id


@dataclass(frozen=True)
class ScorePlan:
    """A run before its start: its head, and a job for each shard."""

    run: Run
    head: RunHead
    model: ModelInfo
    shards: list[Shard]
    jobs: list[ScoreJob]
    alarms: Alarms


def plan_score(config: Config, model: ModelInfo, manifest: Snapshot, partial: bool) -> ScorePlan:
    """Return the run of a model over the wanted shards of a manifest.

    `partial` says whether it covers only some of the archive's images.
    """
    check_engine(model.embedding.engine)
    shards = wanted_shards(manifest, config)
    images = sum(shard.images for shard in shards)
    alarms = plan_alarms(config, images)
    run_id = run_id_of(config, model, shards)
    now = datetime.now(UTC).isoformat()
    head = RunHead(
        run_id=run_id,
        model_id=model.model_id,
        snapshot=manifest.snapshot,
        settings=[run_settings(config, partial)],
        asked=asked_settings(config),
        alarms=alarms,
        shards=[shard.shard for shard in shards],
        images=images,
        started_at=now,
        asked_at=now,
        added={},
    )
    run = Run(workspace_of(config), run_id)
    whole = plans.whole_manifest(config) or manifest if partial else manifest
    jobs = score_jobs(config, run, model, manifest, shards, alarms, whole)
    return ScorePlan(run, head, model, shards, jobs, alarms)


def run_id_of(config: Config, model: ModelInfo, shards: Sequence[Shard]) -> str:
    """Return the id of the run of a model over shards: their content address."""
    score = config.score
    return content_id(
        {
            "model": model.model_id,
            "shards": [shard.digest for shard in shards],
            "heatmaps": score.heatmaps,
            "max_pixels": config.archive.max_pixels,
            "pixel_alpha": score.pixel_alpha,
            **({} if model.suspects is None else {"left_out": True}),
        }
    )


def score_jobs(
    config: Config,
    run: Run,
    model: ModelInfo,
    manifest: Snapshot,
    shards: Sequence[Shard],
    alarms: Alarms,
    whole: Snapshot,
) -> list[ScoreJob]:
    """Return a job for each shard of a run; images of the manifest `whole` are witnesses."""
    witnesses = plans.witnesses_of(config, whole)
    reading = plans.reading_of(config, model.embedding, move_since(config, manifest), witnesses)
    references = references_of(run.workspace, model)
    readings = {
        group: aligning_ahead(reading, model.embedding, references.get(group or ""))
        for group in {shard.group for shard in shards}
    }
    time = plans.time_of(config, manifest)
    return [
        ScoreJob(
            run=run,
            model_id=model.model_id,
            made=model.created_at,
            snapshot=manifest.snapshot,
            shard=shard,
            place=place,
            embedding=model.embedding_of(shard.group),
            sigma=model.sigma,
            reading=readings[shard.group],
            heatmaps=config.score.heatmaps == "grid",
            has_model=shard.group is None or shard.group in model.counts,
            leaves_out=model.suspects is not None,
            alarms=alarms,
            pixel_alpha=config.score.pixel_alpha,
            time=time,
            films=config.archive.layout == "video",
        )
        for place, shard in enumerate(shards)
    ]


def wanted_shards(manifest: Snapshot, config: Config) -> list[Shard]:
    """Return the shards of the splits that are scored."""
    return [shard for shard in manifest.shards if shard.split in config.score.splits]


def drift_jobs(plan: ScorePlan, counts: dict[int, ShardCounts]) -> list[DriftJob]:
    """Return a job for each group with a scored image."""
    shards: dict[str, list[tuple[int, int]]] = {}
    for job in plan.jobs:
        scored = counts[job.place].statuses.get(SCORED, 0)
        if job.shard.group is not None and scored:
            shards.setdefault(job.shard.group, []).append((job.place, scored))
    places = {group: place for place, group in enumerate(images_by_group(plan.shards))}
    return [
        DriftJob(
            run=plan.run,
            model_id=plan.model.model_id,
            made=plan.model.created_at,
            group=group,
            place=places[group],
            shards=tuple(own),
            embedding=plan.model.embedding_of(group),
            count=plan.model.counts[group],
        )
        for group, own in shards.items()
    ]


def check_groups(manifest: Snapshot, model: ModelInfo, config: Config, whole: bool) -> None:
    """Refuse a manifest without images to score; check its groups (`check_known_groups`).

    `whole` says whether it has all images of the archive.
    """
    shards = wanted_shards(manifest, config)
    if not shards:
        raise RequestError(
            f"the manifest has no image of the splits {', '.join(config.score.splits)} "
            "(score.splits); nothing to score"
        )
    if whole:
        check_known_groups(shards, model, config)
    groups = {shard.group for shard in shards if shard.group is not None}
    if unknown := sorted(groups - set(model.counts)):
        logger.warning(
            f"model {model.model_id} lacks {len(unknown)} of {counted(len(groups), 'group')} "
            f"({listed(map(repr, unknown))}): their images get the status {NO_MODEL!r}; run "
            "'padim-dist fit' to add them"
        )


def check_known_groups(shards: Sequence[Shard], model: ModelInfo, config: Config) -> None:
    """Refuse an archive if the model has none of its groups.

    Raises
    ------
    RequestError
        If no image could be scored, e.g. since ``archive.group`` is another expression now.
    """
    groups = {shard.group for shard in shards if shard.group is not None}
    if groups & set(model.counts):
        return
    found = f"the archive has only {listed(map(repr, sorted(groups)))}"
    if not groups:
        found = f"no image of the archive matches archive.group {config.archive.group!r}"
    raise RequestError(
        f"model {model.model_id} has none of the groups of the archive: {found}, the model "
        f"{listed(map(repr, model.counts))}. Correct archive.group, or run 'padim-dist fit' on the "
        "archive as it is now"
    )
