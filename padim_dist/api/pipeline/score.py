"""Score: make a score table and heatmaps of the manifest's images with a model."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from padim_dist.api.pipeline.index import current_manifest
from padim_dist.api.pipeline.judge import Judged, judge_run
from padim_dist.api.pipeline.new_images import select_new
from padim_dist.api.pipeline.score_plan import ScorePlan, check_groups, drift_jobs, plan_score
from padim_dist.api.settings import plans
from padim_dist.api.settings.lookup import check_resumed, choose_model
from padim_dist.api.settings.places import ConfigLike, as_config, logger
from padim_dist.config import Config
from padim_dist.core.status import count_unsettled
from padim_dist.engine.cluster.local import settle
from padim_dist.engine.drift import RunDrifts, measure_group
from padim_dist.engine.memory import projection
from padim_dist.engine.score import score_shard
from padim_dist.engine.workers import open_workers
from padim_dist.events import Listener, ignore
from padim_dist.pages.words import counted
from padim_dist.store.lease import hold
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import ShardCounts
from padim_dist.store.weights import kept_weights_bytes


@dataclass(frozen=True)
class ScoreResult:
    """Result of a score.

    Attributes
    ----------
    run_id, model_id : str
        Content addresses of the run and of its model; no run if there was no new image.
    images, scored, resumed : int
        Rows of the score table, those made by this call, and by earlier ones.
    statuses : mapping of str to int
        Rows by status.
    unsettled : int
        Rows that are not settled, e.g. ``timeout``: the same call tries them again.
    flagged : int or None
        Flagged rows; None if the model has no calibration.
    rule : str or None
        The rule of the flags, in words; None without a run.
    seconds, images_per_second : float
        Duration and rate of this call, with the start of the cluster.
    notes : list of str
        What to do about rows that are not settled.
    """

    run_id: str | None
    model_id: str
    images: int
    scored: int
    resumed: int
    statuses: dict[str, int]
    unsettled: int
    flagged: int | None
    rule: str | None
    seconds: float
    images_per_second: float
    notes: list[str] = field(default_factory=list)


def score(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    resume: str | None = None,
    model: str | None = None,
    snapshot: str | None = None,
    new: bool = False,
) -> ScoreResult:
    """Score the images of a manifest.

    Every image ends as exactly one row, whatever is wrong with it. A second call resumes: shards
    that have a score table are not scored again. The call holds the run's lease.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    resume : str, optional
        Id of a run that this call has to continue.
    model : str, optional
        Id of the model, a unique prefix, or ``"promoted"``; by default the newest one that was
        fitted with these settings.
    snapshot : str, optional
        The manifest; by default the newest of the archive.
    new : bool, optional
        Only images that no finished run of this model has scored.

    Raises
    ------
    RequestError
        If there is no such model or manifest, or the model has no group of the archive.
    ConfigError, ArchiveError, ResourceError, HeldError, RunError
        See `padim_dist.errors`; each message says what to do.

    Examples
    --------
    >>> score(config, model="promoted", new=True).statuses     # doctest: +SKIP
    {'scored': 118, 'unreadable': 2}
    """
    started = time.monotonic()
    config = as_config(config)
    info = choose_model(config, model)
    manifest = current_manifest(config, listener, snapshot, shards=not new)
    check_groups(manifest, info, config, whole=snapshot is None)
    if new:
        manifest = select_new(config, info, manifest)
    plan = plan_score(config, info, manifest, partial=new or snapshot is not None)
    if new and not plan.shards:
        seconds = round(time.monotonic() - started, 2)
        return ScoreResult(None, info.model_id, 0, 0, 0, {}, 0, None, None, seconds, 0.0)
    workspace, run, head = plan.run.workspace, plan.run, plan.head
    earlier = Run(workspace, resume).find_head() if resume else None
    check_resumed(workspace, resume, run.run_id, earlier.asked if earlier else None, head.asked)
    before = unless_damaged(run.find_head, "the run goes on, and writes it again")
    done = run.scores.finished()
    scored, lacking = 0, list[str]()
    is_done = before is not None and before.is_finished and not run.can_go_on(before)
    if len(done) < len(plan.shards) or not is_done:
        with hold(workspace, run.path) as lease:
            done = run.scores.finished()
            scored = sum(job.size for job in plan.jobs if job.place not in done)
            # A finished run stays one while what it has not settled is tried again.
            is_whole = before is not None and before.is_finished and len(done) == len(plan.shards)
            listener = lease.guard(listener)
            counts, drifts = _score(config, plan, done, not is_whole, listener)
            judged = Judged(run, head)
            judgement = judged.judge(plan.alarms)
            added = judged.add_regions(judgement, listener)
            run.conclude(counts, judgement, drifts.figures, drifts.unknown, added.files)
            lacking = added.notes
    elif before and before.alarms != plan.alarms:
        with hold(workspace, run.path) as lease:
            lacking = judge_run(run, before, plan.alarms, lease.guard(listener)).notes
    if run.is_newest(head.settings[0]):
        head = run.head()
    else:
        with hold(workspace, run.path):  # a judgement at the same time writes the head too
            head = run.ask_again(head.settings[0], head.asked_at)
    rows = sum(head.statuses.values())
    seconds = time.monotonic() - started
    return ScoreResult(
        run_id=run.run_id,
        model_id=info.model_id,
        images=rows,
        scored=scored,
        resumed=rows - scored,
        statuses=dict(head.statuses),
        unsettled=count_unsettled(head.statuses),
        flagged=head.flagged,
        rule=plan.alarms.describe(),
        seconds=round(seconds, 2),
        images_per_second=round(scored / seconds, 1),
        notes=[*_notes(head), *lacking],
    )


def _notes(head: RunHead) -> list[str]:
    if not (unsettled := count_unsettled(head.statuses)):
        return []
    return [
        f"{counted(unsettled, 'row')} not settled: the images could not be reached, though others "
        "could. The same command tries them again; the column error has the reasons"
    ]


def _score(
    config: Config, plan: ScorePlan, done: set[int], starts: bool, listener: Listener
) -> tuple[dict[int, ShardCounts], RunDrifts]:
    """Score the missing shards; return the counts of all shards by place, and drift by group.

    `starts` says whether the head of an unfinished run is written.
    """
    counts = plan.run.scores.count(done)
    again = {place for place, count in counts.items() if count.unsettled}
    # A run whose head was damaged after its heatmaps were pruned stays without them.
    heatmaps = config.score.heatmaps == "grid" and not plan.run.has_pruned_heatmaps()
    work = [
        replace(job, again=job.place in again, heatmaps=heatmaps)
        for job in plan.jobs
        if job.place not in done or job.place in again
    ]
    for group in {job.shard.group for job in work if job.again and job.shard.group is not None}:
        plan.run.drift.forget(group)
    workspace, embedding = plan.run.workspace, plan.model.largest
    weights = kept_weights_bytes(workspace, embedding.weights)
    most = max((job.size for job in work), default=0)
    rest = (config.cluster.readers, config.archive.max_pixels, most)
    cluster = settle(config.cluster, "score", projection.score_need(embedding, weights, *rest))
    disk = projection.score_disk(embedding, sum(job.size for job in work), heatmaps)
    projection.check_disk("score", disk, plans.free_disk(workspace.folder), config.workspace)
    if starts:
        plan.run.start(plan.head, plan.shards, embedding.shape, heatmaps)
    with open_workers(cluster, len(work) or 1, listener) as workers:
        scored = workers.map(score_shard, work, "score")
        counts |= {job.place: receipt for job, receipt in scored}
        measured = workers.map(measure_group, drift_jobs(plan, counts), "score: drift")
    drifts = RunDrifts.of(measured)
    for warning in drifts.warnings():
        logger.warning(warning)
    return counts, drifts
