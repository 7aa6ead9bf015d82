"""What the score table of a run says, asked of DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from padim_dist.api.analysis.readers import open_scores
from padim_dist.api.analysis.tables import MOST_ANOMALOUS
from padim_dist.pages.data import Alarms, Failure, Group
from padim_dist.storage import Options

_TOP = (
    'image_id, uri, member, "group", label, score, peak_y, peak_x, width, height, heatmap_row, '
    "shard, p_value, p_extrapolated, flagged"
)


class Verdicts:
    """The score table of a run.

    Parameters
    ----------
    url : str
        Of the run.
    head : mapping
        Its ``run.json``.
    options : mapping
        fsspec options by protocol.
    """

    def __init__(self, url: str, head: Mapping[str, Any], options: Options) -> None:
        self._head = head
        self._scores = open_scores(url, options)

    def statuses(self) -> dict[str, int]:
        """Rows by status."""
        return dict(self._ask("SELECT status, count(*) FROM scores GROUP BY status"))

    def alarms(self) -> Alarms | None:
        """What is flagged; None where no image has a p-value."""
        ((flagged, judged),) = self._ask(
            "SELECT count(*) FILTER (flagged), count(p_value) FROM scores"
        )
        if not judged:
            return None
        alarms = self._head["alarms"]
        cutoff = self._head.get("cutoff")
        if cutoff is None:
            cutoff = alarms["alpha"] if alarms["rule"] != "fdr" else 0.0
        return Alarms(alarms["rule"], alarms["asked"], cutoff, flagged, judged)

    def groups(self) -> list[Group]:
        """Figures of each group, in the order of their names."""
        rows = self._ask(
            'SELECT "group", count(*), count(score), '
            "CASE WHEN count(p_value) > 0 THEN count(*) FILTER (flagged) END, "
            "quantile_cont(score::DOUBLE, 0.5), quantile_cont(score::DOUBLE, 0.99), max(score) "
            'FROM scores WHERE "group" IS NOT NULL GROUP BY "group" ORDER BY "group"'
        )
        return [Group(*row) for row in rows]

    def values(self, column: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Scores or p-values of all images that have some, and which of them are flagged."""
        found = self._relation(
            f"SELECT {column}::DOUBLE AS value, coalesce(flagged, false) AS flagged "
            f"FROM scores WHERE {column} IS NOT NULL"
        ).fetchnumpy()
        return np.asarray(found["value"]), np.asarray(found["flagged"], bool)

    def top(self, most: int) -> list[dict[str, Any]]:
        """Rows of the most anomalous images: by p-value, where there is none by score."""
        found = self._relation(
            f"SELECT {_TOP} FROM scores WHERE score IS NOT NULL "
            f"ORDER BY {MOST_ANOMALOUS} LIMIT {most}"
        )
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

    def failures(self, most: int) -> list[Failure]:
        """The first rows without a score."""
        rows = self._ask(
            "SELECT uri, member, status, error FROM scores WHERE status != 'scored' "
            f"ORDER BY status, uri, member LIMIT {most}"
        )
        return [Failure(*row) for row in rows]

    def labelled(self) -> dict[str, npt.NDArray[Any]]:
        """Columns group, label, score, flagged of labelled test images that have a score."""
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
