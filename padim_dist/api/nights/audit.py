"""Audit: index new images of an archive, score them, and write a summary of the night.

When a night is opened, its images and its model are stored. Every audit first finishes a night
that is not finished, e.g. because it was killed.
"""

from __future__ import annotations

import io
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from padim_dist.api.analysis.pictures import draw_top
from padim_dist.api.nights.batch import judge_night
from padim_dist.api.nights.night_figures import drift_sentence, night_figures
from padim_dist.api.nights.notify import notify_night, telling_failures
from padim_dist.api.nights.oddness import odd_reasons, past_sentence
from padim_dist.api.nights.publishing import publish_nights
from padim_dist.api.pipeline.fit import fit
from padim_dist.api.pipeline.index import make_manifest
from padim_dist.api.pipeline.new_images import select_unsettled
from padim_dist.api.pipeline.score import score
from padim_dist.api.pipeline.score_plan import check_known_groups
from padim_dist.api.publish.publish import publish_new
from padim_dist.api.retention.prune import prune, prune_after_night
from padim_dist.api.settings.lookup import promoted_model
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_of,
    archive_settings,
    archive_title,
    as_config,
    logger,
    workspace_of,
)
from padim_dist.config import Config
from padim_dist.core.status import count_unsettled
from padim_dist.events import Listener, ignore
from padim_dist.pages.night import night_markdown
from padim_dist.redaction import redacted
from padim_dist.store.history import Entry, read_history
from padim_dist.store.lease import Lease, hold, user_and_host
from padim_dist.store.manifests import Snapshot, read_manifest
from padim_dist.store.models import ModelInfo
from padim_dist.store.nights import (
    Night,
    NightImage,
    NightSummary,
    add_night,
    find_summary,
    last_night,
    night_title,
    put_summary,
    summaries_before,
)
from padim_dist.store.runs.turns import newest_turn


@dataclass(frozen=True)
class AuditResult:
    """Result of an audit.

    Attributes
    ----------
    nights : list of NightSummary
        Finished nights: one, or two if an earlier one was not finished.
    candidate, seconds : str or None, float
        Id of the model that was fitted for approval, None without `refit`; duration of this call.
    archive : str
        Address of the archive, without secrets: images are below it.
    unpublished : str or None
        Why nights are not in the tables of the section ``publish``; None if they are, or if there
        are no such tables.
    """

    nights: list[NightSummary]
    candidate: str | None
    seconds: float
    archive: str = ""
    unpublished: str | None = None


def audit(config: ConfigLike, listener: Listener = ignore, *, refit: bool = False) -> AuditResult:
    """Index an archive, score new images with the promoted model, and write a summary.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    refit : bool, optional
        Also fit a candidate, on the window if ``fit.window`` is set; `promote` approves it.

    Raises
    ------
    RequestError
        If no model is promoted, or its settings are not those of the configuration.
    HeldError
        If another audit holds the lease of the night.
    ArchiveError, RunError
        See `index` and `score`; another call resumes.

    Examples
    --------
    >>> audit(config).nights[-1].state    # doctest: +SKIP
    'done'
    """
    started = time.monotonic()
    config = as_config(config)
    with telling_failures(config):
        done = []
        if left := unfinished_night(config):
            done.append(_work(config, left, listener))
        if night := open_night(config, listener, even_if_empty=not done):
            done.append(_work(config, night, listener))
        unpublished = publish_nights(config, lambda: publish_new(config, listener))
        candidate = fit(config, listener).model_id if refit else None
    prune_after_night(config, lambda: prune(config, listener))
    seconds = round(time.monotonic() - started, 2)
    return AuditResult(done, candidate, seconds, redacted(archive_of(config).url), unpublished)


def _work(config: Config, night: Night, listener: Listener) -> NightSummary:
    with hold_night(config, night) as lease:
        listener = lease.guard(listener)
        return conclude_night(config, night, score_night(config, night, listener))


def unfinished_night(config: Config) -> Night | None:
    """Return the night that was opened but not finished, if there is one."""
    workspace = workspace_of(config)
    night = last_night(workspace, archive_settings(config))
    if night is None or find_summary(workspace, night.path):
        return None
    logger.info("night %d, of %s, is not finished: going on", night.number, night.opened_at)
    return night


def open_night(
    config: Config, listener: Listener = ignore, *, even_if_empty: bool = True
) -> Night | None:
    """Index the archive and open a night for the images that are new since the last one.

    Returns
    -------
    Night or None
        None if there is no new image and `even_if_empty` is false. If another process has just
        opened a night, that one.

    Raises
    ------
    RequestError
        If no model is promoted, or its settings are not those of the configuration.
    ArchiveError
        See `index`.
    """
    model = promoted_model(config)
    workspace, settings = workspace_of(config), archive_settings(config)
    manifest, entry, _ = make_manifest(config, listener)
    check_known_groups(manifest.shards, model, config)
    while True:
        last = last_night(workspace, settings)
        if last and not find_summary(workspace, last.path):
            return last
        came = read_history(workspace, settings, last.last) if last else []
        new = [found.increment for found in came if found.increment]
        again = _unsettled(config, last, entry, model) if last else None
        if last and not new and not again and not even_if_empty:
            return None
        number = last.number + 1 if last else 1
        night = Night(
            number=number,
            path=workspace.night(settings, number),
            first=last.last + 1 if last else 1,
            last=entry.number,
            snapshots=[*new, *([again.snapshot] if again else [])] if last else [entry.snapshot],
            model_id=model.model_id,
            opened_at=datetime.now(UTC).isoformat(timespec="seconds"),
            opened_by=user_and_host(),
            retried=again.images if again else 0,
            turn=newest_turn(workspace) or 0,
            turn_before=last.turn if last else 0,
        )
        if add_night(workspace, settings, night):
            return night


def _unsettled(config: Config, last: Night, entry: Entry, model: ModelInfo) -> Snapshot | None:
    """Return a manifest of the images that the last night did not settle; None if there are none.

    The images that the nights before it did not settle are among them.
    """
    workspace = workspace_of(config)
    summary, manifest = find_summary(workspace, last.path), read_manifest(workspace, entry.snapshot)
    if summary is None or not summary.unsettled or manifest is None:
        return None
    found = select_unsettled(config, model, manifest, summary.runs, last.turn_before)
    return found if found.images else None


def hold_night(config: Config, night: Night) -> AbstractContextManager[Lease]:
    """Hold a night's lease; see `hold` for the error."""
    return hold(workspace_of(config), night.path)


def score_night(config: Config, night: Night, listener: Listener = ignore) -> list[str]:
    """Score a night's images with its model; return the ids of the runs. Raises as `score`."""
    workspace = workspace_of(config)
    runs = []
    for snapshot in night.snapshots:
        manifest = read_manifest(workspace, snapshot)
        if manifest and not any(s.split in config.score.splits for s in manifest.shards):
            continue  # e.g. only normal images, which are not scored
        result = score(config, listener, model=night.model_id, snapshot=snapshot)
        runs.append(str(result.run_id))
    return runs


def conclude_night(config: Config, night: Night, runs: list[str]) -> NightSummary:
    """Write a night's ``top.jpg`` and ``summary.md``, notify, and write ``summary.json`` last.

    So a process that dies in between notifies twice, but never not at all.
    """
    workspace, settings = workspace_of(config), archive_settings(config)
    folder = workspace.folder
    if there := find_summary(workspace, night.path):
        return there
    most = max(config.audit.compare, config.audit.fdr_nights or 0)
    earlier = summaries_before(workspace, settings, night.number, most)
    batch = judge_night(config, night.number, runs, earlier)
    statuses, groups, top = night_figures(config, runs)
    before = earlier[-config.audit.compare :]
    reasons = odd_reasons(config.audit, night.model_id, statuses, groups, before, night.retried)
    archive, day, picture = archive_title(config), night.opened_at[:10], None
    title = night_title(night.number, day, archive)
    if drawn := draw_top(config, top, title):
        sink = io.BytesIO()
        drawn.save(sink, "JPEG", quality=85)
        picture = sink.getvalue()
        folder.put(f"{night.path}/top.jpg", picture)
    state = "odd" if reasons else "done"
    summary = NightSummary(
        number=night.number,
        state=state,
        reasons=reasons,
        day=day,
        model_id=night.model_id,
        images=sum(statuses.values()),
        statuses=statuses,
        groups=groups,
        top=[NightImage.of(row) for row in top],
        runs=runs,
        folder=folder.at(night.path),
        picture=picture is not None,
        opened_at=night.opened_at,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        retried=night.retried,
        unsettled=count_unsettled(statuses),
        archive=archive,
        drift=drift_sentence(groups),
        past=past_sentence(night.number, state, night.model_id, before),
        batch=batch,
    )
    folder.put(f"{night.path}/summary.md", night_markdown(summary).encode())
    if notices := notify_night(config, summary, picture):
        summary = replace(summary, notices=notices)
        folder.put(f"{night.path}/summary.md", night_markdown(summary).encode())
    put_summary(workspace, night, summary)
    return summary
