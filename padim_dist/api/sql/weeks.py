"""Figures by week and group, from score rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb

from padim_dist.api.settings.rules import Alpha
from padim_dist.api.sql.views import open_views
from padim_dist.config import Config
from padim_dist.store.runs.tombstones import WeekFigures

_WEEK = "strftime(coalesce(captured_at, scored_at) AT TIME ZONE 'UTC', '%G-W%V')"


@dataclass(frozen=True)
class WeekRow:
    """A group in a week, or all groups together.

    Attributes
    ----------
    week, group : str, str or None
        ISO week, UTC, e.g. ``"2026-W48"``; None: all groups.
    images, flagged : int, int or None
        Scored images, and flagged ones; None if none has a p-value.
    flagged_share : float or None
        Share of the images with a p-value that are flagged.
    median_score, median_p : float or None
        Medians; of all groups there is no median score, since their scores are not comparable.
    """

    week: str
    group: str | None
    images: int
    flagged: int | None
    flagged_share: float | None
    median_score: float | None
    median_p: float | None


def week_figures(scores: duckdb.DuckDBPyRelation) -> list[WeekFigures]:
    """Return figures by week: of all groups, then of each by name.

    Parameters
    ----------
    scores : DuckDBPyRelation
        Rows with the columns of the score table, one an image. Rows without a score are left out.
        The week is that of ``captured_at``, or of ``scored_at`` where it is not known.
    """
    dated = "status = 'scored' AND coalesce(captured_at, scored_at) IS NOT NULL"
    found = scores.filter(dated).aggregate(
        f'{_WEEK} AS week, "group" AS name, count(*) AS images, '
        "count(flagged) AS judged, count(*) FILTER (flagged) AS flagged, "
        'CASE WHEN grouping("group") = 0 THEN median(score::DOUBLE) END AS middle, '
        "median(p_value) AS p",
        f'GROUPING SETS (({_WEEK}), ({_WEEK}, "group"))',
    )
    return [WeekFigures(*row) for row in found.order("week, name NULLS FIRST").fetchall()]


def merged_weeks(figures: Iterable[WeekFigures]) -> list[WeekFigures]:
    """Return figures of the same images in one line for each week and group.

    Counts are added. Where several have a median, the median of these by images stands for it.

    Examples
    --------
    >>> parts = [WeekFigures("2026-W48", "a", n, n, 1, m, 0.5) for n, m in ((10, 3.0), (30, 4.0))]
    >>> merged_weeks(parts)[0].images, merged_weeks(parts)[0].median_score
    (40, 4.0)
    """
    found: dict[tuple[str, str | None], list[WeekFigures]] = {}
    for one in figures:
        found.setdefault((one.week, one.group), []).append(one)
    order = sorted(found, key=lambda key: (key[0], key[1] is not None, key[1] or ""))
    return [
        WeekFigures(
            week,
            group,
            *(sum(getattr(one, name) for one in own) for name in ("images", "judged", "flagged")),
            *(_middle(own, name) for name in ("median_score", "median_p")),
        )
        for week, group in order
        for own in [found[week, group]]
    ]


def _middle(figures: Sequence[WeekFigures], name: str) -> float | None:
    """Return the median of medians; each counts as often as it has images."""
    known = sorted(
        (value, one.images) for one in figures if (value := getattr(one, name)) is not None
    )
    half, passed = sum(images for _, images in known) / 2, 0
    for value, images in known:
        passed += images
        if passed >= half:
            return float(value)
    return None


def week_rows(figures: Iterable[WeekFigures]) -> list[WeekRow]:
    """Return figures by week as rows for people."""
    return [
        WeekRow(
            week=one.week,
            group=one.group,
            images=one.images,
            flagged=one.flagged if one.judged else None,
            flagged_share=one.flagged / one.judged if one.judged else None,
            median_score=one.median_score,
            median_p=one.median_p,
        )
        for one in figures
    ]


def weeks_of_archive(config: Config, archive: str | None, alpha: Alpha | None) -> list[WeekRow]:
    """Return figures by week of the newest row of each image of an archive (`RunHead.archive`).

    With `alpha`, flags are those of this alpha.
    """
    connection, _ = open_views(config, None, None, alpha)
    own = "SELECT run_id FROM runs WHERE archive IS NOT DISTINCT FROM ?"
    query = f"SELECT * FROM latest WHERE run_id IN ({own})"
    return week_rows(week_figures(connection.sql(query, params=[archive])))
