"""Figures by week and group, from score rows."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from padim_dist.api.settings.rules import Alpha
from padim_dist.api.sql.views import open_views
from padim_dist.config import Config

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


def weeks_of(scores: duckdb.DuckDBPyRelation) -> list[WeekRow]:
    """Return figures by week: of all groups, then of each by name.

    Parameters
    ----------
    scores : DuckDBPyRelation
        Rows with the columns of the score table, one an image. Rows without a score are left out.
        The week is that of ``captured_at``, or of ``scored_at`` where it is not known.
    """
    found = scores.filter("status = 'scored'").aggregate(
        f'{_WEEK} AS week, "group" AS name, count(*) AS images, '
        "CASE WHEN count(flagged) > 0 THEN count(*) FILTER (flagged) END AS flagged, "
        "count(*) FILTER (flagged) / nullif(count(flagged), 0) AS share, "
        'CASE WHEN grouping("group") = 0 THEN median(score::DOUBLE) END AS middle, '
        "median(p_value) AS p",
        f'GROUPING SETS (({_WEEK}), ({_WEEK}, "group"))',
    )
    return [WeekRow(*row) for row in found.order("week, name NULLS FIRST").fetchall()]


def weeks_of_archive(config: Config, archive: str | None, alpha: Alpha | None) -> list[WeekRow]:
    """Return figures by week of the newest row of each image of an archive (`RunHead.archive`).

    With `alpha`, flags are those of this alpha.
    """
    connection, _ = open_views(config, None, None, alpha)
    own = "SELECT run_id FROM runs WHERE archive IS NOT DISTINCT FROM ?"
    query = f"SELECT * FROM latest WHERE run_id IN ({own})"
    return weeks_of(connection.sql(query, params=[archive]))
