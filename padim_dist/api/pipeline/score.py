"""Score: from a model and the manifest's images to a score table and heatmaps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from padim_dist.api.pipeline.alarms import plan_alarms
from padim_dist.api.pipeline.run_files import ask_again, conclude, groups_of, make_head, start
from padim_dist.api.settings import plans
from padim_dist.api.settings.lookup import choose_manifest, choose_model, select_new
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.config import ClusterConfig, Config
from padim_dist.engine import projection
from padim_dist.engine.cluster.local import open_client, settle
from padim_dist.engine.drift import DriftJob, measure_drifts
from padim_dist.engine.score import ScoreJob, score_shards
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.manifests import Shard, Snapshot
from padim_dist.store.models import ModelInfo
from padim_dist.store.run import ShardCounts
from padim_dist.store.run_tables import count_shards, finished_shards
from padim_dist.store.weights import kept_weights_bytes
from padim_dist.store.workspace import Workspace, content_id


@dataclass(frozen=True)
class ScoreResult:
    """What a score did.

    Attributes
    ----------
    run_id, model_id : str
        Content addresses of the run and of the model it used; no run where there was
        nothing new to score.
    images : int
        Rows of the score table.
    scored, resumed : int
        Of those, handled now, and found done by an earlier run.
    statuses : mapping of str to int
        Rows by status.
    flagged : int or None
        Rows that are flagged; None where the model has no calibration.
    alpha : float or None
        Share of normal images that is flagged by mistake (under the rule ``fdr``: the highest
        that may be); None where there was nothing to score.
    seconds, images_per_second : float
        Of this call, start-up of the cluster included.
    """

    run_id: str | None
    model_id: str
    images: int
    scored: int
    resumed: int
    statuses: dict[str, int]
    flagged: int | None
    alpha: float | None
    seconds: float
    images_per_second: float


def score(
    config: Config,
    listener: Listener = ignore,
    resume: str | None = None,
    *,
    model: str | None = None,
    snapshot: str | None = None,
    new: bool = False,
) -> ScoreResult:
    """Score the images of the manifest.

    Every image ends as exactly one row, whatever is wrong with it. A second call
    resumes: shards that have a score table are not scored again. While it works it holds
    the run's lease.

    Parameters
    ----------
    config : Config
        The configuration.
    listener : callable, optional
        Is told what happens.
    resume : str, optional
        Id of a run that this one must be a continuation of.
    model : str, optional
        Id of the model, or ``"promoted"``; by default the newest of these settings.
    snapshot : str, optional
        The manifest; by default the newest of the archive.
    new : bool, optional
        Only images that no finished run of this model has scored.

    Raises
    ------
    RequestError
        If there is no such model or manifest, or the model knows no group of the archive.
    ConfigError, ArchiveError, ResourceError, HeldError, RunError
        See there; each message says what to do.

    Examples
    --------
    >>> score(config, model="promoted", new=True).statuses     # doctest: +SKIP
    {'scored': 118, 'unreadable': 2}
    """
    started = time.monotonic()
    info = choose_model(config, model)
    workspace = workspace_of(config)
    manifest = choose_manifest(config, snapshot, listener)
    _check_groups(_wanted(manifest, config), info, config, whole=snapshot is None)
    if new:
        manifest = select_new(config, info, manifest)
    shards = _wanted(manifest, config)
    if new and not shards:
        seconds = round(time.monotonic() - started, 2)
        return ScoreResult(None, info.model_id, 0, 0, 0, {}, None, None, seconds, 0.0)
    alarms = plan_alarms(config.score, sum(shard.images for shard in shards))
    run_id = content_id(
        {
            "model": info.model_id,
            "shards": [shard.digest for shard in shards],
            "heatmaps": config.score.heatmaps,
            "max_pixels": config.archive.max_pixels,
            "alarms": asdict(alarms),
            "pixel_alpha": config.score.pixel_alpha,
        }
    )
    settings = plans.run_settings(config, partial=new or snapshot is not None)
    head = make_head(config, run_id, info, manifest, shards, settings, alarms)
    path = f"{workspace.run(str(resume))}/run.json"
    plans.check_resumed(workspace, path, resume, run_id, head["asked"])
    done = finished_shards(workspace, run_id)
    before = workspace.folder.find_json(f"{workspace.run(run_id)}/run.json")
    scored = 0
    if len(done) < len(shards) or before is None or "finished_at" not in before:
        with hold(workspace.folder, workspace.run(run_id)) as lease:
            done = finished_shards(workspace, run_id)
            jobs = _jobs(config, run_id, info, manifest, shards, workspace, alarms.alpha)
            scored = sum(job.size for job in jobs if job.place not in done)
            listener = lease.guard(listener)
            counts, drift = _score(config, head, info, jobs, done, workspace, listener)
            conclude(head, counts, drift, workspace)
    ask_again(head, workspace)
    run = workspace.folder.read_json(f"{workspace.run(run_id)}/run.json")
    statuses = run["statuses"]
    seconds = time.monotonic() - started
    return ScoreResult(
        run_id=run_id,
        model_id=info.model_id,
        images=sum(statuses.values()),
        scored=scored,
        resumed=sum(statuses.values()) - scored,
        statuses=statuses,
        flagged=run["flagged"],
        alpha=alarms.alpha,
        seconds=round(seconds, 2),
        images_per_second=round(scored / seconds, 1),
    )


def _wanted(manifest: Snapshot, config: Config) -> list[Shard]:
    """Shards of the splits that are scored."""
    return [shard for shard in manifest.shards if shard.split in config.score.splits]


def _score(
    config: Config,
    head: dict[str, Any],
    model: ModelInfo,
    jobs: list[ScoreJob],
    done: set[int],
    workspace: Workspace,
    listener: Listener,
) -> tuple[dict[int, ShardCounts], dict[str, dict[str, Any]]]:
    """Score the shards that have no score table, and measure the drift.

    Returns
    -------
    counts : dict of int to ShardCounts
        Of all shards, by place. Those that were done are read when the others are: a resume
        begins with one listing, however many there are.
    drift : dict of str to dict
        Figures by group.
    """
    work = [job for job in jobs if job.place not in done]
    cluster = _settle(config, model, workspace, sum(job.size for job in work))
    start(config, head, model, [job.shard for job in jobs], workspace)
    with open_client(cluster, len(work) or 1) as client:
        counts = score_shards(client, work, listener, cluster.most_workers)
        counts.update(count_shards(workspace, head["run_id"], done))
        drifts = _drift_jobs(config, model, jobs, counts)
        return counts, measure_drifts(client, drifts, listener, cluster.most_workers)


def _drift_jobs(
    config: Config, model: ModelInfo, jobs: list[ScoreJob], counts: dict[int, ShardCounts]
) -> list[DriftJob]:
    """How to measure the drift of each group of which an image was scored."""
    shards: dict[str, list[tuple[int, int]]] = {}
    for job in jobs:
        scored = counts[job.place].statuses.get("scored", 0)
        if job.shard.group is not None and scored:
            shards.setdefault(job.shard.group, []).append((job.place, scored))
    places = {group: place for place, group in enumerate(groups_of(job.shard for job in jobs))}
    return [
        DriftJob(
            workspace=jobs[0].workspace,
            run_id=jobs[0].run_id,
            model_id=model.model_id,
            group=group,
            place=places[group],
            shards=tuple(own),
            embedding=model.embedding,
            count=model.counts[group],
            threads=config.cluster.threads,
        )
        for group, own in shards.items()
    ]


def _jobs(
    config: Config,
    run_id: str,
    model: ModelInfo,
    snapshot: Snapshot,
    shards: list[Shard],
    workspace: Workspace,
    alpha: float,
) -> list[ScoreJob]:
    return [
        ScoreJob(
            workspace=workspace.folder,
            run_id=run_id,
            model_id=model.model_id,
            snapshot=snapshot.snapshot,
            shard=shard,
            place=place,
            embedding=model.embedding,
            sigma=model.sigma,
            reading=plans.reading_of(config, model.embedding),
            heatmaps=config.score.heatmaps == "grid",
            has_model=shard.group is None or shard.group in model.counts,
            alpha=alpha,
            pixel_alpha=config.score.pixel_alpha,
            threads=config.cluster.threads,
        )
        for place, shard in enumerate(shards)
    ]


def _check_groups(shards: list[Shard], model: ModelInfo, config: Config, whole: bool) -> None:
    """Refuse an archive of which the model knows nothing; some images may well be of new groups."""
    if not shards:
        raise RequestError(
            f"the manifest has no image of the splits {', '.join(config.score.splits)} "
            "(score.splits); nothing to score"
        )
    groups = {shard.group for shard in shards if shard.group is not None}
    unknown = sorted(groups - set(model.counts))
    shown = ", ".join(map(repr, unknown[:8]))
    if whole and unknown and len(unknown) == len(groups):
        raise RequestError(
            f"model {model.model_id} knows no group of the archive ({shown}), only "
            f"{', '.join(map(repr, list(model.counts)[:8]))}; run 'fit' on the archive as it is now"
        )
    if unknown:
        logger.warning(
            "model %s lacks %d of %d groups (%s): their images become rows 'unreadable' that say "
            "so; fit a model that has them",
            model.model_id,
            len(unknown),
            len(groups),
            shown,
        )


def _settle(config: Config, model: ModelInfo, workspace: Workspace, images: int) -> ClusterConfig:
    """Check the needs of memory and disk; the cluster with its number of workers fixed."""
    weights = kept_weights_bytes(workspace, model.embedding.weights)
    need = projection.score_need(
        model.embedding, weights, config.cluster.readers, config.archive.max_pixels
    )
    cluster = settle(config.cluster, "score", need)
    disk = projection.score_disk(model.embedding, images, config.score.heatmaps == "grid")
    projection.check_disk("score", disk, plans.free_disk(workspace.folder), config.workspace)
    return cluster
