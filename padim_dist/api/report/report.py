"""Report: one HTML file about a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import padim_dist
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.labels.truths import Truths
from padim_dist.api.report.events import find_events
from padim_dist.api.report.gallery import choose_rows, make_gallery, scales_of
from padim_dist.api.report.histogram import histogram_of
from padim_dist.api.report.labels import find_metrics, labels_of
from padim_dist.api.report.model import drift_maps, drift_trend, quality_of, thresholds_of
from padim_dist.api.report.suspects import find_suspects
from padim_dist.api.report.verdicts import Verdicts
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.api.settings.rules import Alpha, with_alpha
from padim_dist.api.sql.nights import title_of_run
from padim_dist.api.sql.tables import open_connection
from padim_dist.api.sql.views import add_views
from padim_dist.api.sql.weeks import weeks_of_archive
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.pages.data import GroupRow, ReportData, Week
from padim_dist.pages.html import render
from padim_dist.pages.words import counted, listed
from padim_dist.storage import Folder
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run

_GROUPS = 200
"""Groups in the tables, the worst ones."""
_MAPS = 12
"""Groups whose drift is drawn over the patches, the worst ones."""
_FAILURES = 200


@dataclass(frozen=True)
class ReportResult:
    """Path and figures of a report.

    Attributes
    ----------
    run_id : str
        The run that it is about.
    report : str
        Path or URL of the file.
    images, anomalies, without_picture : int
        Rows of the run, images in the gallery, and those of them without a picture.
    bytes : int
        Size of the file.
    seconds : float
        Duration of this call.
    """

    run_id: str
    report: str
    images: int
    anomalies: int
    without_picture: int
    bytes: int
    seconds: float


def report(
    config: ConfigLike,
    listener: Listener = ignore,
    *,
    run: str | None = None,
    top: int = 200,
    out: str | None = None,
    alpha: Alpha | None = None,
    title: str | None = None,
) -> ReportResult:
    """Write a report about a run: one HTML file that works offline.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of the run, or a unique prefix, also of one that is half done; by default the newest
        finished run.
    top : int, optional
        Largest number of images in the gallery.
    out : str, optional
        Path or URL of the file; by default ``report.html`` in the run.
    alpha : float or "auto", optional
        Flags of this alpha, instead of those of the rule of the run.
    title : str, optional
        Title of the page; by default that of the night of the run, or else the run and the archive.

    Raises
    ------
    RequestError
        If there is no such run, or none of its shards is finished.

    Examples
    --------
    >>> report(config, top=50).report            # doctest: +SKIP
    '/data/audit/runs/0f3e.../report.html'
    """
    started = time.monotonic()
    if top < 1:
        raise RequestError(f"--top is how many images the gallery shows: 1 or more; found {top}")
    config = as_config(config)
    workspace = workspace_of(config)
    head = with_alpha(config, choose_run(workspace, run), alpha)
    data = replace(
        _gather(config, head, top, listener),
        title=title or title_of_run(workspace, head.run_id),
        weeks=_weeks(config, head, alpha),
    )
    page = render(data, padim_dist.__version__).encode()
    target = out or workspace.at(Run(workspace, head.run_id).report_path)
    folder, _, name = Folder(target, config.storage_options).url.rpartition("/")
    Folder(folder or "/", config.storage_options).put(name, page)
    return ReportResult(
        run_id=head.run_id,
        report=target,
        images=data.rows,
        anomalies=len(data.anomalies),
        without_picture=sum(item.picture is None for item in data.anomalies),
        bytes=len(page),
        seconds=round(time.monotonic() - started, 2),
    )


def _gather(config: Config, head: RunHead, top: int, listener: Listener) -> ReportData:
    images = RunImages(config, head.run_id)
    run, model = images.run, images.model
    verdicts = Verdicts(run, head)
    flags = verdicts.flags()
    every = _worst_first(verdicts.groups(), head.drift)
    groups, rows = every[:_GROUPS], choose_rows(verdicts, top)
    names = [group.name for group in groups if group.name in model.info.counts]
    shown = sorted({*names, *(str(row.group) for row in rows)})
    lines = thresholds_of(model, shown, head)
    # Under the rule auto the cut-offs of groups differ: the lowest one is none of them all.
    cutoff = None if head.alarms and head.alarms.follows_resolution else head.cutoff_in(0.0)
    scales = scales_of(images, rows, every, lines)
    quality, faults = quality_of(model, names)
    metrics = unless_damaged(lambda: find_metrics(run), "the report has no pixel metrics")
    drifted = sorted(head.drift, key=lambda name: -head.drift[name].z)
    connection = open_connection(run.workspace)
    add_views(connection, run.workspace, [head])
    truths = Truths(connection, head)
    suspects, suspects_left = find_suspects(config, images)
    events, events_left = find_events(connection, images, listener)
    return ReportData(
        head=head,
        backbone=model.info.embedding.trunk.backbone,
        unseen=model.info.embedding.geometry.unseen,
        shards_done=len(run.scores.finished()),
        statuses=verdicts.statuses(),
        alarms=flags,
        histogram=histogram_of(verdicts, flags, cutoff, lines, [group.name for group in every]),
        groups=[replace(group, threshold=lines.get(group.name)) for group in groups],
        groups_left=len(every) - len(groups),
        anomalies=make_gallery(images, rows, scales, listener),
        scales=scales,
        failures=verdicts.failures(_FAILURES),
        drift=drift_maps(images, verdicts.typical(drifted[:_MAPS])),
        drift_groups=len(head.drift),
        trend=drift_trend(run.workspace, head, drifted[:_MAPS]),
        quality=quality,
        labels=labels_of(verdicts.labelled(), metrics, truths),
        suspects=suspects,
        suspects_left=suspects_left,
        events=events,
        events_left=events_left,
        warnings=_warnings(head, model.info.counts, every, [*faults, *run.pruned_notes()]),
    )


def _weeks(config: Config, head: RunHead, alpha: Alpha | None) -> list[Week]:
    """Return the weekly trend of the archive; none if there is only one week."""
    rows = weeks_of_archive(config, head.archive, alpha)
    weeks = [Week(row.week, row.images, row.flagged_share) for row in rows if row.group is None]
    return weeks if len(weeks) > 1 else []


def _worst_first(groups: Sequence[GroupRow], drift: Mapping[str, DriftFigures]) -> list[GroupRow]:
    """Sort groups by flagged share, drift, and the ratio of highest to median score."""
    zs = {name: figures.z for name, figures in drift.items()}

    def badness(group: GroupRow) -> tuple[float, float, float]:
        share = (group.flagged or 0) / max(group.scored, 1)
        outstanding = (group.highest or 0.0) / max(group.median or 0.0, 1e-6)
        return -share, -(group.drift_z or 0.0), -outstanding

    return sorted((replace(g, drift_z=zs.get(g.name)) for g in groups), key=badness)


def _warnings(
    head: RunHead, fitted: Mapping[str, int], groups: Sequence[GroupRow], faults: list[str]
) -> list[str]:
    """Return warnings about the figures."""
    found = list(faults)
    if head.alarms and head.alarms.needs_all and not head.is_finished:
        found.append("Flags are known only when the run is finished: their rule needs all images.")
    for why in sorted(set(head.drift_unknown.values())):
        names = sorted(name for name, own in head.drift_unknown.items() if own == why)
        found.append(
            f"Drift of {counted(len(names), 'group')} ({listed(names, 5)}) unknown: {why}."
        )
    unknown = [group.name for group in groups if group.name not in fitted]
    if unknown:
        some = f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
        groups_are = "1 group is" if len(unknown) == 1 else f"{len(unknown):,} groups are"
        found.append(
            f"{groups_are} not in the model ({some}): images without a model have no score. Fit a "
            "model on all groups."
        )
    return found
