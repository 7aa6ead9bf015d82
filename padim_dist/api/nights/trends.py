"""Groups over nights and from one night to the next: pure functions of their summaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from padim_dist.store.nights import GroupNight, NightSummary

_LEAST = 3
"""Nights that a trend needs."""


@dataclass(frozen=True)
class GroupTrend:
    """A group over the last nights of its newest model.

    Attributes
    ----------
    group, nights : str, int
        Name; nights with images of it.
    images, flagged : int, int or None
        Rows of these nights, and flagged ones; None if the model has no calibration.
    flagged_share : float or None
        Share of the scored images that are flagged.
    median_score, usual_score : float or None
        Median score in the newest night; median of the medians of the nights before, None without
        one.
    rise : float or None
        Median score divided by the usual one, minus 1.
    trend : float or None
        Change of the median score from one night to the next, as a share of the median of all:
        Theil and Sen's slope. None with fewer than three nights.
    drift : float or None
        Drift from the model in the newest night, in standard deviations of sampling noise.
    drifted : bool or None
        Whether it is significant.
    """

    group: str
    nights: int
    images: int
    flagged: int | None
    flagged_share: float | None
    median_score: float | None
    usual_score: float | None
    rise: float | None
    trend: float | None
    drift: float | None
    drifted: bool | None

    @property
    def badness(self) -> tuple[float, float, float]:
        """What is sorted by: flagged share, drift, rise."""
        return self.flagged_share or 0.0, self.drift or 0.0, self.rise or 0.0


@dataclass(frozen=True)
class GroupChange:
    """A group in a night and in the night before.

    `images`, `flagged_share`, `median_score` and `drift` are as in `GroupTrend`; those that end in
    ``_before`` are of the night before. None: no image of the group came, or it is not known.
    """

    group: str
    images: int | None
    images_before: int | None
    flagged_share: float | None
    flagged_share_before: float | None
    median_score: float | None
    median_score_before: float | None
    drift: float | None
    drift_before: float | None


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the median of the slopes between all pairs of points (Theil and Sen).

    A third of the points may be anything without a large effect. None with fewer than three.

    Examples
    --------
    >>> slope([(1, 10.0), (2, 11.0), (3, 12.0), (4, 99.0), (5, 14.0)])
    1.0
    """
    if len(points) < _LEAST:
        return None
    pairs = combinations(points, 2)
    slopes = [(y - before) / (x - then) for (then, before), (x, y) in pairs if x != then]
    return median(slopes) if slopes else None


def group_trends(summaries: Sequence[NightSummary]) -> list[GroupTrend]:
    """Return figures of each group over nights (the newest last), the worst group first.

    Scores of different models are not comparable: the nights of a group are those of the model
    that its newest night used.
    """
    names = {name for summary in summaries for name in summary.groups}
    trends = [_trend(name, summaries) for name in sorted(names)]
    return sorted(trends, key=lambda trend: trend.badness, reverse=True)


def group_changes(now: NightSummary, before: NightSummary | None) -> list[GroupChange]:
    """Return the groups of a night beside those of the night before, by name."""
    earlier = before.groups if before else {}
    return [
        _change(name, now.groups.get(name), earlier.get(name))
        for name in sorted({*now.groups, *earlier})
    ]


def flagged_share(groups: Iterable[GroupNight]) -> float | None:
    """Return the share of scored rows that are flagged; None if none has a p-value."""
    judged = [(group.flagged, group.scored) for group in groups if group.flagged is not None]
    scored = sum(count for _, count in judged)
    return sum(flagged for flagged, _ in judged) / scored if scored else None


def _trend(name: str, summaries: Sequence[NightSummary]) -> GroupTrend:
    having = [summary for summary in summaries if name in summary.groups]
    model = having[-1].model_id
    nights = [(s.number, s.groups[name]) for s in having if s.model_id == model]
    figures = [group for _, group in nights]
    newest = figures[-1]
    medians = [(float(number), group.median) for number, group in nights if group.median]
    earlier = [group.median for group in figures[:-1] if group.median]
    usual = median(earlier) if earlier else None
    steepness = slope(medians)
    flags = [group.flagged for group in figures if group.flagged is not None]
    return GroupTrend(
        group=name,
        nights=len(figures),
        images=sum(group.images for group in figures),
        flagged=sum(flags) if flags else None,
        flagged_share=_rounded(flagged_share(figures)),
        median_score=newest.median,
        usual_score=_rounded(usual),
        rise=_rounded(newest.median / usual - 1) if newest.median and usual else None,
        trend=None if steepness is None else _rounded(steepness / median(y for _, y in medians)),
        drift=_deviations(newest),
        drifted=newest.drift.changed if newest.drift else None,
    )


def _change(name: str, now: GroupNight | None, before: GroupNight | None) -> GroupChange:
    def share(group: GroupNight | None) -> float | None:
        return _rounded(flagged_share([group])) if group else None

    return GroupChange(
        group=name,
        images=now.images if now else None,
        images_before=before.images if before else None,
        flagged_share=share(now),
        flagged_share_before=share(before),
        median_score=now.median if now else None,
        median_score_before=before.median if before else None,
        drift=_deviations(now),
        drift_before=_deviations(before),
    )


def _deviations(group: GroupNight | None) -> float | None:
    if group is None or group.drift is None or not group.drift.noise:
        return None
    return round(group.drift.excess / group.drift.noise, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
