"""What a night came to, from its score tables: rows by status, figures by group, the worst rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from padim_dist.api.analysis.readers import open_scores
from padim_dist.api.analysis.tables import MOST_ANOMALOUS
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config
from padim_dist.store.nights import DriftNight, GroupNight


def night_figures(
    config: Config, runs: Sequence[str]
) -> tuple[dict[str, int], dict[str, GroupNight], list[dict[str, Any]]]:
    """Rows by status, figures by group, and the most anomalous rows of some runs."""
    workspace = workspace_of(config)
    if not runs:
        return {}, {}, []
    urls = [workspace.folder.at(workspace.run(run)) for run in runs]
    heads = [workspace.folder.read_json(f"{workspace.run(run)}/run.json") for run in runs]
    scores = open_scores(urls, config.storage_options)
    statuses = dict(scores.aggregate("status, count(*)", "status").order("status").fetchall())
    figures = scores.filter('"group" IS NOT NULL').aggregate(
        '"group", count(*), count(score), median(score), max(score), '
        "count(flagged), count(*) FILTER (flagged)",
        '"group"',
    )
    alpha = max(head["alarms"]["alpha"] for head in heads)
    groups = {
        name: GroupNight(
            images=images,
            scored=scored,
            median=_rounded(middle),
            highest=_rounded(highest),
            flagged=flagged if judged else None,
            alpha=alpha if judged else None,
            drift=combine_drifts([head["drift"][name] for head in heads if name in head["drift"]]),
        )
        for name, images, scored, middle, highest, judged, flagged in figures.order(
            '"group"'
        ).fetchall()
    }
    worst = scores.filter("status = 'scored'").order(MOST_ANOMALOUS).limit(config.audit.top)
    top = [dict(zip(worst.columns, row, strict=True)) for row in worst.fetchall()]
    return statuses, groups, top


def combine_drifts(drifts: Sequence[Mapping[str, float]]) -> DriftNight | None:
    """The drift of a group over the runs of a night: a mean weighted by their images.

    Examples
    --------
    >>> run = {"images": 10, "drift": 2.0, "expected": 1.5, "noise": 0.1}
    >>> combine_drifts([run, run])
    DriftNight(excess=0.5, noise=0.0707)
    """
    images = sum(drift["images"] for drift in drifts)
    if not images:
        return None
    excess = sum(drift["images"] * (drift["drift"] - drift["expected"]) for drift in drifts)
    noise = sqrt(sum((drift["images"] * drift["noise"]) ** 2 for drift in drifts))
    return DriftNight(round(excess / images, 4), round(noise / images, 4))


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)
