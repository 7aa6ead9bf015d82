"""What is known about the images of a run, from its view ``scores``: labels and reviews.

The truth about an image is its newest review, else its label. Labels count in the split ``test``,
reviews in any split. Images that the model was fitted on count only by their leave-one-out score,
and never for the rates of flags: their p-values are ranks in the calibration that they belong to,
so that a share alpha of them is flagged by construction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby

import duckdb
import numpy as np
import numpy.typing as npt

from padim_dist.api.sql.flags import cutoff_sql
from padim_dist.api.sql.reviews import KNOWN, OUTSIDE, truth_columns
from padim_dist.core.align.motion import Motion
from padim_dist.core.evaluation.flags import FlagCounts, FlagFigures
from padim_dist.core.status import GOOD
from padim_dist.pages.words import listed
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import motion_of

_BATCH = 20_000


@dataclass(frozen=True)
class GroupTruths:
    """Images of a group whose truth is known.

    Attributes
    ----------
    scores, anomalous : array of float, array of bool
        Of the scored ones, shape (n,).
    not_scored : int
        Images without a score.
    """

    scores: npt.NDArray[np.float64]
    anomalous: npt.NDArray[np.bool_]
    not_scored: int


@dataclass(frozen=True)
class KnownImage:
    """A scored image whose truth is known, its size, and how it lies if it was aligned."""

    image_id: str
    group: str
    is_anomalous: bool
    heatmap_row: int | None
    size: tuple[int, int]
    motion: Motion | None = None


class Truths:
    """Queries about the images of a run.

    Parameters
    ----------
    connection, head : duckdb.DuckDBPyConnection, RunHead
        With the view ``scores`` of one run, and its head; see `padim_dist.api.sql.views.run_views`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, head: RunHead) -> None:
        self._connection = connection
        columns = truth_columns(connection.sql("FROM scores").columns)
        # A rule by rank promises nothing about normal images.
        by_rank = head.alarms is not None and head.alarms.is_by_rank
        promised = "NULL" if by_rank else cutoff_sql([head])
        # In one pass; of an archive of any size, since DuckDB moves what is too large to disk.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE truths AS "
            f'SELECT image_id, shard, "group", split, score, flagged, heatmap_row, verdict, '
            "height, width, shift_y, shift_x, angle, "
            f'{columns}, ({promised})::DOUBLE AS promised FROM scores WHERE "group" IS NOT NULL '
            "AND (split = 'test' OR verdict IS NOT NULL)"
        )
        self._known = f"SELECT *, truth != '{GOOD}' AS anomalous FROM truths WHERE {KNOWN}"
        self._outside = f"SELECT * FROM truths WHERE {OUTSIDE} AND flagged IS NOT NULL"

    def by_group(self) -> dict[str, GroupTruths]:
        """Return the images of each group whose truth is known, sorted by group."""
        columns = self._connection.sql(
            f'SELECT "group", score::DOUBLE AS score, anomalous FROM ({self._known}) '
            'ORDER BY "group"'
        ).fetchnumpy()
        groups, starts = np.unique(columns["group"].astype(str), return_index=True)
        stops = np.append(starts[1:], len(columns["group"]))[: len(starts)]
        scores = np.ma.filled(columns["score"], np.nan)
        anomalous = np.ma.getdata(columns["anomalous"]).astype(bool)
        found = {}
        for name, start, stop in zip(groups, starts, stops, strict=True):
            own = scores[start:stop]
            is_scored = ~np.isnan(own)
            found[str(name)] = GroupTruths(
                own[is_scored], anomalous[start:stop][is_scored], int((~is_scored).sum())
            )
        return found

    def figures(self) -> tuple[dict[str, FlagFigures], FlagFigures | None]:
        """Return how good the flags of each group are, and those of all; None without p-values."""
        flags, promised = self._flags(), self._promised()
        every = sum(flags.values(), FlagCounts())
        groups = {name: FlagFigures.of(own, promised[name]) for name, own in flags.items()}
        return groups, FlagFigures.of(every, promised[None]) if flags else None

    def _flags(self) -> dict[str, FlagCounts]:
        """Return the counts of each group with p-values, by flag and truth."""
        counts = ", ".join(
            f"count(*) FILTER ({flagged} AND {truth})"
            for flagged in ("flagged", "NOT flagged")
            for truth in (f"truth != '{GOOD}'", f"truth = '{GOOD}'", "truth IS NULL")
        )
        query = f'SELECT "group", {counts} FROM ({self._outside}) GROUP BY 1 ORDER BY 1'
        rows = self._connection.execute(query).fetchall()
        return {group: FlagCounts(*numbers) for group, *numbers in rows}

    def _promised(self) -> dict[str | None, float | None]:
        """Return the share of normal images that the rule would flag, by group; None: of all.

        It is the highest flagged p-value, averaged over images: groups may have different ones.
        """
        query = f"SELECT avg(promised) FROM ({self._outside})"
        ((every,),) = self._connection.execute(query).fetchall()
        groups = self._connection.execute(
            f'SELECT "group", avg(promised) FROM ({self._outside}) GROUP BY 1'
        ).fetchall()
        return {None: every, **dict(groups)}

    def notes(self) -> list[str]:
        """Return a note on groups where only flagged images are known."""
        found = self._connection.execute(
            f'SELECT "group" FROM ({self._known}) WHERE score IS NOT NULL GROUP BY 1 '
            "HAVING bool_and(coalesce(flagged, false)) AND count_if(anomalous) BETWEEN 1 "
            "AND count(*) - 1 ORDER BY 1"
        ).fetchall()
        names = listed(repr(name) for (name,) in found)
        note = (
            f"image AUROC and best F1 of {names}: only flagged images are known there, so they say "
            "nothing about all images; review some that are not flagged"
        )
        return [note] if found else []

    def count_reviewed(self) -> int:
        """Return the images with a verdict."""
        ((reviewed,),) = self._connection.execute("SELECT count(verdict) FROM truths").fetchall()
        return int(reviewed)

    def count_changed(self) -> int:
        """Return images whose address was reviewed, but with another object at it."""
        # Images of the same path in another archive have the same id.
        query = "SELECT count(*) FROM scores SEMI JOIN reviews USING (image_id, uri) "
        query += "WHERE verdict IS NULL"
        ((changed,),) = self._connection.execute(query).fetchall()
        return int(changed)

    def anomalous(self) -> dict[str, str]:
        """Return the group of each scored image that is known to be anomalous, by image_id."""
        query = (
            f'SELECT image_id, "group" FROM ({self._known}) WHERE anomalous AND score IS NOT NULL'
        )
        return dict(self._connection.execute(query).fetchall())

    def by_shard(self, groups: Collection[str]) -> Iterator[list[KnownImage]]:
        """Yield the scored images of some groups whose truth is known, those of a shard at once."""
        found = self._connection.execute(
            'SELECT shard, image_id, "group", anomalous, heatmap_row, height, width, shift_y, '
            f"shift_x, angle FROM ({self._known}) "
            'WHERE score IS NOT NULL AND list_contains(?, "group") ORDER BY shard, heatmap_row',
            [list(groups)],
        )
        rows = iter(lambda: found.fetchmany(_BATCH), [])
        each = (row for batch in rows for row in batch)
        for _, shard in groupby(each, key=lambda row: row[0]):
            yield [_known(*values) for _, *values in shard]


def _known(
    image_id: str,
    group: str,
    is_anomalous: bool,
    heatmap_row: int | None,
    height: int,
    width: int,
    *motion: float | None,
) -> KnownImage:
    size = height, width
    return KnownImage(image_id, group, is_anomalous, heatmap_row, size, motion_of(*motion))
