"""Figures of a night from its score tables: rows by status, by group, the most anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

from padim_dist.api.nights.camera import Camera, night_cameras
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.sql.flags import MOST_ANOMALOUS
from padim_dist.api.sql.tables import open_table, read_rows
from padim_dist.config import Config
from padim_dist.core.drift import FALSE_DRIFT, Drift
from padim_dist.pages.words import listed
from padim_dist.store.models import find_model
from padim_dist.store.nights import DriftNight, GroupNight
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import SCORES, ScoreRow
from padim_dist.store.runs.run import Run


def night_figures(
    config: Config, runs: Sequence[str]
) -> tuple[dict[str, int], dict[str, GroupNight], list[ScoreRow]]:
    """Return rows by status, figures by group, and the most anomalous rows of runs."""
    if not runs:
        return {}, {}, []
    found = [Run(workspace_of(config), run) for run in runs]
    heads = [run.head() for run in found]
    scores = open_table(SCORES, list(zip(found, heads, strict=True)))
    statuses = dict(scores.aggregate("status, count(*)", "status").order("status").fetchall())
    figures = scores.filter('"group" IS NOT NULL').aggregate(
        '"group", count(*), count(score), median(score), max(score), '
        "count(flagged), count(*) FILTER (flagged), max(resolution)",
        '"group"',
    )
    unknown = {name: why for head in heads for name, why in head.drift_unknown.items()}
    by_group = figures.order('"group"').fetchall()
    model = unless_damaged(
        lambda: find_model(workspace_of(config), heads[0].model_id),
        "where its cameras are is not known",
    )
    cameras = night_cameras(scores, model)
    groups = {
        name: GroupNight(
            images=images,
            scored=scored,
            median=_rounded(middle),
            highest=_rounded(highest),
            flagged=flagged if judged else None,
            alpha=_alpha(heads, resolution or 0.0) if judged else None,
            drift=combine_drifts(
                [head.drift[name] for head in heads if name in head.drift],
                FALSE_DRIFT / len(by_group),
            ),
            drift_unknown=unknown.get(name),
            moved=cameras.get(name, Camera()).moved,
            unaligned=cameras.get(name, Camera()).unaligned,
        )
        for name, images, scored, middle, highest, judged, flagged, resolution in by_group
    }
    worst = scores.filter("status = 'scored'").order(MOST_ANOMALOUS).limit(config.audit.top)
    return statuses, groups, read_rows(ScoreRow, worst)


def combine_drifts(drifts: Sequence[DriftFigures], chance: float) -> DriftNight | None:
    """Return the drift of a group over the runs of a night: a mean weighted by images.

    `chance` is the probability that a group that has not changed is said to have.

    Examples
    --------
    >>> run = DriftFigures(images=10, drift=2.0, expected=1.5, noise=0.1, z=5.0)
    >>> combine_drifts([run, run], 0.001)
    DriftNight(excess=0.5, noise=0.0707, changed=True)
    """
    images = sum(one.images for one in drifts)
    if not images:
        return None
    drift, expected = (
        sum(one.images * getattr(one, name) for one in drifts) / images
        for name in ("drift", "expected")
    )
    noise = sqrt(sum((one.images * one.noise) ** 2 for one in drifts)) / images
    whole = Drift(images, drift, expected, noise)
    return DriftNight(round(drift - expected, 4), round(noise, 4), whole.z > whole.limit(chance))


def drift_sentence(groups: Mapping[str, GroupNight]) -> str:
    """Return whether the images of a night differ from those of the model.

    Examples
    --------
    >>> moved, still = (DriftNight(9.0, 1.0, changed) for changed in (True, False))
    >>> drift_sentence({"a": GroupNight(9, 9, 1.0, 1.0, drift=moved)})
    "The images of 'a' differ significantly from those of the model (drift)."
    >>> drift_sentence({"a": GroupNight(9, 9, 1.0, 1.0, drift=still)})
    'The images do not differ significantly from those of the model (drift).'
    """
    known = {name: group.drift.changed for name, group in groups.items() if group.drift}
    if not known:
        return ""
    if changed := sorted(name for name, has_changed in known.items() if has_changed):
        which = f"The images of {listed(map(repr, changed))} differ"
    else:
        which = "The images do not differ"
    return f"{which} significantly from those of the model (drift)."


def _alpha(heads: Sequence[RunHead], resolution: float) -> float | None:
    """Return the share of normal images that runs flag; None if a rule promises none."""
    rules = [head.alarms for head in heads if head.alarms]
    if any(rule.alpha is None for rule in rules):
        return None
    return max((rule.likely(resolution) for rule in rules), default=None)


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)
