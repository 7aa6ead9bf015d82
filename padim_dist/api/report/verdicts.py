"""DuckDB queries over one score table, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.api.sql.flags import MOST_ANOMALOUS, cutoff_sql
from padim_dist.api.sql.reviews import KNOWN, OUTSIDE, truth_columns
from padim_dist.api.sql.tables import open_table, read_rows
from padim_dist.core.status import GOOD
from padim_dist.pages.data import FlagSummary, GroupRow
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import SCORES, ScoreRow
from padim_dist.store.runs.run import Run


class Verdicts:
    """The score table of a run.

    Parameters
    ----------
    run, head : Run, RunHead
        The run and its head.

    Raises
    ------
    RequestError
        If no shard of it is finished.
    """

    def __init__(self, run: Run, head: RunHead) -> None:
        self._head = head
        self._scores = open_table(SCORES, [(run, head)])

    def statuses(self) -> dict[str, int]:
        """Return rows by status."""
        return dict(self._scores.aggregate("status, count(*)", "status").fetchall())

    def flags(self) -> FlagSummary | None:
        """Return what is flagged; None if nothing can be."""
        expected = f"sum({cutoff_sql([self._head])}) FILTER (p_value IS NOT NULL)"
        counts = self._scores.aggregate(
            f"count(*) FILTER (flagged), count(p_value), count(flagged), {expected}"
        )
        ((flagged, judged, known, false),) = counts.fetchall()
        alarms = self._head.alarms
        if alarms is None or not (known or judged):
            return None
        return FlagSummary(alarms, flagged, judged, None if alarms.needs_all else false)

    def groups(self) -> list[GroupRow]:
        """Return figures of each group, sorted by name."""
        found = self._scores.filter('"group" IS NOT NULL').aggregate(
            '"group", count(*), count(score), '
            "CASE WHEN count(p_value) > 0 THEN count(*) FILTER (flagged) END, "
            "quantile_cont(score::DOUBLE, 0.5), quantile_cont(score::DOUBLE, 0.99), max(score)",
            '"group"',
        )
        return [GroupRow(*row) for row in found.order('"group"').fetchall()]

    def values(
        self, column: str
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.str_]]:
        """Return all scores or p-values, whether each image is flagged, and its split."""
        columns = f"{column}::DOUBLE AS value, coalesce(flagged, false) AS flagged, split"
        found = self._scores.filter(f"{column} IS NOT NULL").project(columns).fetchnumpy()
        splits = np.asarray(np.ma.getdata(found["split"]), str)
        return np.asarray(found["value"]), np.asarray(found["flagged"], bool), splits

    def top(self, most: int) -> list[ScoreRow]:
        """Return the rows of the most anomalous images: by p-value, or else by score."""
        scored = self._scores.filter("score IS NOT NULL")
        return read_rows(ScoreRow, scored.order(MOST_ANOMALOUS).limit(most))

    def missed(self, most: int) -> list[ScoreRow]:
        """Return the most anomalous rows of images known to be anomalous that are not flagged."""
        rows = self._scores.project(f"*, {truth_columns(self._scores.columns)}")
        found = rows.filter(f"truth != '{GOOD}' AND NOT flagged AND score IS NOT NULL")
        return read_rows(ScoreRow, found.order(MOST_ANOMALOUS).limit(most))

    def typical(self, groups: Sequence[str]) -> dict[str, ScoreRow | None]:
        """Return the row with the lowest score of each group, in their order; None without one."""
        rank = 'row_number() OVER (PARTITION BY "group" ORDER BY score, uri, member) AS rank'
        ranked = self._scores.filter("score IS NOT NULL").project(f"*, {rank}").filter("rank = 1")
        found = {row.group: row for row in read_rows(ScoreRow, ranked)}
        return {group: found.get(group) for group in groups}

    def failures(self, most: int) -> list[ScoreRow]:
        """Return the first rows without a score."""
        failed = self._scores.filter("status != 'scored'")
        return read_rows(ScoreRow, failed.order("status, uri, member").limit(most))

    def labelled(self) -> dict[str, npt.NDArray[Any]]:
        """Return columns group, label, score, flagged, outside of images whose truth is known.

        They are scored. The label is the newest review, else the label of the archive; the model
        was not fitted on images outside.
        """
        rows = self._scores.project(f"*, {truth_columns(self._scores.columns)}")
        known = rows.filter(f'{KNOWN} AND score IS NOT NULL AND "group" IS NOT NULL')
        columns = known.project(
            '"group", truth AS label, score::DOUBLE AS score, coalesce(flagged, false) AS flagged, '
            f"({OUTSIDE}) AS outside"
        ).fetchnumpy()
        return {name: np.ma.getdata(column) for name, column in columns.items()}
