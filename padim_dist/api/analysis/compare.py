"""Compare two runs on the images they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from padim_dist.api.settings.lookup import pick_run, progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.api.sql.tables import image_name, open_connection, table_query
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run, list_runs

SHOWN = 20
"""Largest number of images or groups in a list."""


@dataclass(frozen=True)
class Moved:
    """An image with different ranks in two runs; rank 1 is the highest score."""

    image: str
    group: str | None
    rank_a: int
    rank_b: int
    score_a: float
    score_b: float
    image_id: str


@dataclass(frozen=True)
class Turned:
    """An image that only one of two runs flags."""

    image: str
    group: str | None
    p_value_a: float
    p_value_b: float
    image_id: str


@dataclass(frozen=True)
class Medians:
    """Median scores of a group in two runs."""

    group: str | None
    images: int
    median_a: float
    median_b: float


@dataclass(frozen=True)
class CompareResult:
    """Comparison of two runs.

    Attributes
    ----------
    run_a, run_b : str
        Their ids.
    both, only_a, only_b : int
        Images scored in both runs (by uri and member), and in only one.
    spearman : float or None
        Rank correlation of the scores of shared images; None if all scores of a run are equal.
    flagged_a, flagged_b, new, gone : int or None
        Shared images that each run flags, that only the second flags, and that only the first
        flags; None if a run has no p-values.
    moved : list of Moved
        Images with the largest change of rank, at most 20.
    new_anomalies, gone_anomalies : list of Turned
        At most 20 of each, the lowest p-value first.
    medians : list of Medians
        By group, the largest change first, at most 20.
    """

    run_a: str
    run_b: str
    both: int
    only_a: int
    only_b: int
    spearman: float | None
    flagged_a: int | None
    flagged_b: int | None
    new: int | None
    gone: int | None
    notes: list[str]
    moved: list[Moved]
    new_anomalies: list[Turned]
    gone_anomalies: list[Turned]
    medians: list[Medians]


def compare(
    config: ConfigLike, _listener: Listener = ignore, *, run_a: str, run_b: str
) -> CompareResult:
    """Compare two runs of a workspace.

    Parameters
    ----------
    config : Config or path
        The configuration.
    run_a, run_b : str
        Ids of the runs, or unique prefixes; the earlier run first.

    Raises
    ------
    RequestError
        If there is no such run, they are the same, or have no scored image in common.

    Examples
    --------
    >>> compare(config, run_a="8e5c", run_b="41f0").spearman        # doctest: +SKIP
    0.981
    """
    config = as_config(config)
    workspace, archive = workspace_of(config), archive_of(config).url
    runs = list_runs(workspace)
    heads = [pick_run(workspace, runs, asked) for asked in (run_a, run_b)]
    ids = [head.run_id for head in heads]
    if ids[0] == ids[1]:
        raise RequestError(f"{run_a!r} and {run_b!r} are the same run, {ids[0]}; give two")
    connection = open_connection(workspace)
    for name, head in zip("ab", heads, strict=True):
        query = table_query(connection, SCORES, [(Run(workspace, head.run_id), head)])
        connection.execute(f"CREATE VIEW {name} AS FROM ({query}) WHERE status = 'scored'")
    connection.execute(_JOIN)
    counts, flags = _one(connection, _COUNTS), _one(connection, _FLAGS)
    if not counts["both"]:
        raise RequestError(
            f"runs {ids[0]} and {ids[1]} have no scored image in common (by uri and member): "
            f"{counts['only_a']:,} in the first, {counts['only_b']:,} in the second"
        )
    notes = [note for head in heads for note in progress_note(head)]
    if heads[0].model_id != heads[1].model_id:
        notes.append("the runs have different models: compare ranks and p-values, not scores")
    if not flags.pop("judged"):
        flags = dict.fromkeys(flags)
        notes.append("a run has no p-values (no calibration): flags are not compared")
    return CompareResult(
        run_a=ids[0],
        run_b=ids[1],
        **counts,
        **_one(connection, _SPEARMAN),
        **flags,
        notes=notes,
        moved=[
            Moved(image_name(archive, uri, member), *rest)
            for uri, member, *rest in connection.execute(_MOVED).fetchall()
        ],
        new_anomalies=_turned(archive, connection, "b"),
        gone_anomalies=_turned(archive, connection, "a"),
        medians=[Medians(*row) for row in connection.execute(_MEDIANS).fetchall()],
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """Return the only row of a query, by column."""
    found = connection.sql(query)
    (row,) = found.fetchall()
    return dict(zip(found.columns, row, strict=True))


def _turned(archive: str, connection: duckdb.DuckDBPyConnection, by: str) -> list[Turned]:
    """Return images that one run flags and the other does not."""
    other = "a" if by == "b" else "b"
    rows = connection.execute(
        f'SELECT uri, member, "group", p_a, p_b, image_id FROM common WHERE flagged_{by} '
        f"AND NOT flagged_{other} ORDER BY p_{by}, uri, member LIMIT {SHOWN}"
    ).fetchall()
    return [Turned(image_name(archive, uri, member), *rest) for uri, member, *rest in rows]


# The compared columns in memory, so that each file is read once.
_JOIN = """
CREATE TEMP TABLE common AS
SELECT b.uri, b.member, b."group", b.image_id, a.score AS score_a, b.score AS score_b,
       a.p_value AS p_a, b.p_value AS p_b, a.flagged AS flagged_a, b.flagged AS flagged_b
FROM a JOIN b ON a.uri = b.uri AND a.member IS NOT DISTINCT FROM b.member;
CREATE TEMP VIEW ranked AS
SELECT *,
       rank() OVER (ORDER BY score_a DESC)
           + (count(*) OVER (PARTITION BY score_a) - 1) / 2 AS rank_a,
       rank() OVER (ORDER BY score_b DESC)
           + (count(*) OVER (PARTITION BY score_b) - 1) / 2 AS rank_b
FROM common
"""
_COUNTS = """
SELECT count(*) AS both, (SELECT count(*) FROM a) - count(*) AS only_a,
       (SELECT count(*) FROM b) - count(*) AS only_b
FROM common
"""
_SPEARMAN = """
SELECT CASE WHEN isfinite(r) THEN r END AS spearman
FROM (SELECT corr(rank_a, rank_b) AS r FROM ranked)
"""
_FLAGS = """
SELECT count(p_a) > 0 AND count(p_b) > 0 AS judged,
       count(*) FILTER (flagged_a) AS flagged_a, count(*) FILTER (flagged_b) AS flagged_b,
       count(*) FILTER (flagged_b AND NOT flagged_a) AS new,
       count(*) FILTER (flagged_a AND NOT flagged_b) AS gone
FROM common
"""
_MOVED = f"""
SELECT uri, member, "group", round(rank_a)::BIGINT, round(rank_b)::BIGINT, score_a, score_b,
       image_id
FROM ranked WHERE rank_a <> rank_b
ORDER BY abs(rank_a - rank_b) DESC, least(rank_a, rank_b), uri, member LIMIT {SHOWN}
"""
_MEDIANS = f"""
SELECT "group", count(*), median(score_a) AS x, median(score_b) AS y
FROM common GROUP BY ALL ORDER BY abs(y - x) / greatest(x, 1e-9) DESC, "group" LIMIT {SHOWN}
"""
