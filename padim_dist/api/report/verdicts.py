"""DuckDB queries over one score table, for the report."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from padim_dist.api.analysis.tables import MOST_ANOMALOUS, open_table, score_rows
from padim_dist.errors import RequestError
from padim_dist.pages.data import FlagSummary, GroupRow
from padim_dist.pages.gallery_data import Failure
from padim_dist.store.run import Run, RunHead
from padim_dist.store.run_rows import ScoreRow
from padim_dist.store.run_tables import SCORES


class Verdicts:
    """The score table of a run.

    Parameters
    ----------
    run : Run
        The run.
    head : RunHead
        Its head.

    Raises
    ------
    RequestError
        If no shard of it is finished.
    """

    def __init__(self, run: Run, head: RunHead) -> None:
        if not run.scores.files():
            raise RequestError(
                f"run {head.run_id} has no finished shard yet; run 'padim-dist score' again: it "
                "resumes"
            )
        self._head = head
        self._scores = open_table(SCORES, [(run, head)])

    def statuses(self) -> dict[str, int]:
        """Return rows by status."""
        return dict(self._ask("SELECT status, count(*) FROM scores GROUP BY status"))

    def flags(self) -> FlagSummary | None:
        """Return what is flagged; None if no image has a p-value."""
        ((flagged, judged),) = self._ask(
            "SELECT count(*) FILTER (flagged), count(p_value) FROM scores"
        )
        if not judged or self._head.alarms is None:
            return None
        return FlagSummary(self._head.alarms, self._head.known_cutoff or 0.0, flagged, judged)

    def groups(self) -> list[GroupRow]:
        """Return figures of each group, sorted by name."""
        rows = self._ask(
            'SELECT "group", count(*), count(score), '
            "CASE WHEN count(p_value) > 0 THEN count(*) FILTER (flagged) END, "
            "quantile_cont(score::DOUBLE, 0.5), quantile_cont(score::DOUBLE, 0.99), max(score) "
            'FROM scores WHERE "group" IS NOT NULL GROUP BY "group" ORDER BY "group"'
        )
        return [GroupRow(*row) for row in rows]

    def values(self, column: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return all scores or p-values, and whether each image is flagged."""
        found = self._relation(
            f"SELECT {column}::DOUBLE AS value, coalesce(flagged, false) AS flagged "
            f"FROM scores WHERE {column} IS NOT NULL"
        ).fetchnumpy()
        return np.asarray(found["value"]), np.asarray(found["flagged"], bool)

    def top(self, most: int) -> list[ScoreRow]:
        """Return the rows of the most anomalous images: by p-value, or else by score."""
        return score_rows(
            self._relation(
                f"FROM scores WHERE score IS NOT NULL ORDER BY {MOST_ANOMALOUS} LIMIT {most}"
            )
        )

    def failures(self, most: int) -> list[Failure]:
        """Return the first rows without a score."""
        rows = self._ask(
            "SELECT uri, member, status, error FROM scores WHERE status != 'scored' "
            f"ORDER BY status, uri, member LIMIT {most}"
        )
        return [Failure(*row) for row in rows]

    def labelled(self) -> dict[str, npt.NDArray[Any]]:
        """Return columns group, label, score, flagged of scored test images with a label."""
        columns: dict[str, npt.NDArray[Any]] = self._relation(
            'SELECT "group", label, score::DOUBLE AS score, coalesce(flagged, false) AS flagged '
            "FROM scores WHERE split = 'test' AND label IS NOT NULL AND score IS NOT NULL"
        ).fetchnumpy()
        return {name: np.ma.getdata(column) for name, column in columns.items()}

    def _relation(self, question: str) -> duckdb.DuckDBPyRelation:
        found = self._scores.query("scores", question)
        assert found is not None  # it is a SELECT
        return found

    def _ask(self, question: str) -> list[Any]:
        return self._relation(question).fetchall()
