"""Score: from a model and the manifest's images to a score table and heatmaps."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from padim_dist.api import common
from padim_dist.api.choice import choose_manifest, choose_model, select_new
from padim_dist.api.places import logger, workspace_of
from padim_dist.config import ClusterConfig, Config
from padim_dist.engine import projection
from padim_dist.engine.cluster import open_client, settle
from padim_dist.engine.score import ScoreJob, score_shards
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.lease import hold
from padim_dist.store.manifests import Shard, Snapshot
from padim_dist.store.models import ModelInfo
from padim_dist.store.runs import create_heatmaps, heatmap_rows, list_runs
from padim_dist.store.tables import count_rows, finished_shards
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
    seconds, images_per_second : float
        Of this call, start-up of the cluster included.
    """

    run_id: str | None
    model_id: str
    images: int
    scored: int
    resumed: int
    statuses: dict[str, int]
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
        return ScoreResult(None, info.model_id, 0, 0, 0, {}, seconds, 0.0)
    run_id = content_id(
        {
            "model": info.model_id,
            "shards": [shard.digest for shard in shards],
            "heatmaps": config.score.heatmaps,
            "max_pixels": config.archive.max_pixels,
        }
    )
    settings = common.run_settings(config, partial=new or snapshot is not None)
    head = _head(config, run_id, info, manifest, shards, settings)
    path = f"{workspace.run(str(resume))}/run.json"
    common.check_resumed(workspace, path, resume, run_id, head["asked"])
    done = finished_shards(workspace, run_id)
    if len(done) == len(shards):
        statuses = count_rows(workspace, run_id, done)
        resumed = statuses.total()
    else:
        with hold(workspace.folder, workspace.run(run_id)) as lease:
            done = finished_shards(workspace, run_id)
            statuses = count_rows(workspace, run_id, done)
            resumed = statuses.total()
            jobs = _jobs(config, run_id, info, manifest, shards, workspace)
            work = [job for job in jobs if job.place not in done]
            listener = lease.guard(listener)
            statuses += _score(config, head, info, shards, work, workspace, listener)
    _finish(head, dict(statuses), workspace)
    scored = statuses.total() - resumed
    seconds = time.monotonic() - started
    return ScoreResult(
        run_id=run_id,
        model_id=info.model_id,
        images=statuses.total(),
        scored=scored,
        resumed=resumed,
        statuses=dict(statuses),
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
    shards: list[Shard],
    work: list[ScoreJob],
    workspace: Workspace,
    listener: Listener,
) -> Counter[str]:
    """Score the shards that have no score table; their rows by status."""
    cluster = _settle(config, model, workspace, sum(job.size for job in work))
    _start(config, head, model, shards, workspace)
    with open_client(cluster, len(work)) as client:
        receipts = score_shards(client, work, listener, cluster.most_workers)
    return sum((Counter(receipt.statuses) for receipt in receipts.values()), Counter())


def _head(
    config: Config,
    run_id: str,
    model: ModelInfo,
    snapshot: Snapshot,
    shards: list[Shard],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What is asked: the content of ``run.json`` as long as the run is not finished."""
    now = datetime.now(UTC).isoformat()
    return {
        "run_id": run_id,
        "model_id": model.model_id,
        "snapshot": snapshot.snapshot,
        "settings": [settings],
        "asked": common.asked_settings(config),
        "shards": [shard.shard for shard in shards],
        "images": sum(shard.images for shard in shards),
        "started_at": now,
        "asked_at": now,
    }


def _start(
    config: Config,
    head: dict[str, Any],
    model: ModelInfo,
    shards: list[Shard],
    workspace: Workspace,
) -> None:
    """Write what is asked, and make room for heatmaps."""
    run = workspace.run(head["run_id"])
    workspace.folder.put_json(f"{run}/run.json", head)
    if config.score.heatmaps == "grid":
        rows = heatmap_rows([shard.images for shard in shards])
        grid = model.embedding.shape.grids[0]
        create_heatmaps(workspace.folder, run, len(shards), rows, grid)


def _finish(head: dict[str, Any], statuses: dict[str, int], workspace: Workspace) -> None:
    """Write the counts, unless the run stands there finished and is the newest of its kind."""
    path = f"{workspace.run(head['run_id'])}/run.json"
    before = workspace.folder.read_json(path)
    (wanted,) = head["settings"]
    own = [run for run in list_runs(workspace) if wanted in run["settings"]]
    newest = bool(own) and own[-1]["run_id"] == head["run_id"]
    if "finished_at" in before and newest:
        return
    workspace.folder.put_json(
        path,
        {
            **before,
            # Other words for the same images, e.g. all splits where there is but one.
            "settings": [*(known for known in before["settings"] if known != wanted), wanted],
            "asked_at": head["asked_at"],
            "finished_at": before.get("finished_at", datetime.now(UTC).isoformat()),
            "statuses": statuses,
        },
    )


def _jobs(
    config: Config,
    run_id: str,
    model: ModelInfo,
    snapshot: Snapshot,
    shards: list[Shard],
    workspace: Workspace,
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
            reading=common.reading_of(config, model.embedding.geometry),
            heatmaps=config.score.heatmaps == "grid",
            has_model=shard.group is None or shard.group in model.counts,
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
    projection.check_disk("score", disk, common.free_disk(workspace.folder), config.workspace)
    return cluster
