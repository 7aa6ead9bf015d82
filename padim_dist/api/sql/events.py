"""The view ``events``: flagged frames of a film, joined over time."""

from __future__ import annotations

import duckdb

_LONGEST_GAP = 1.0
"""Seconds between two flagged frames of one event; or two steps of the film's rows, if longer."""
IS_FRAME = (
    r"(regexp_matches(member, '^t=-?\d+\.\d{3}$') "
    r"AND regexp_matches(lower(uri), '\.(mp4|mkv|avi|mov)$'))"
)
"""SQL: whether a row is a frame of a film; see `padim_dist.archive.films.names`."""
_EVENTS = f"""
CREATE VIEW events AS
WITH frames AS (
    SELECT run_id, "group", uri, image_id, score, p_value, flagged, captured_at, night,
        substr(member, 3)::DOUBLE AS second
    FROM scores WHERE {IS_FRAME}
),
steps AS (
    SELECT run_id, uri, median(step) AS step FROM (
        SELECT run_id, uri, second - lag(second) OVER (PARTITION BY run_id, uri ORDER BY second)
            AS step
        FROM frames
    ) GROUP BY run_id, uri
),
joined AS (
    SELECT *, second - lag(second) OVER (PARTITION BY run_id, uri ORDER BY second)
            > greatest({_LONGEST_GAP}, 2 * coalesce(step, 0)) AS is_first
    FROM frames JOIN steps USING (run_id, uri) WHERE flagged
),
numbered AS (
    SELECT *, 1 + count(*) FILTER (is_first) OVER (
        PARTITION BY run_id, uri ORDER BY second ROWS UNBOUNDED PRECEDING
    ) AS event
    FROM joined
)
SELECT run_id, "group", uri, event::BIGINT AS event,
    min(second) AS starts, max(second) AS ends,
    arg_max(second, score) AS peak, max(score) AS score, min(p_value) AS p_value,
    count(*) AS frames, arg_max(image_id, score) AS image_id,
    min(captured_at) AS captured_at, any_value(night) AS night,
    list(image_id ORDER BY second) AS image_ids
FROM numbered GROUP BY run_id, "group", uri, event
ORDER BY p_value NULLS LAST, score DESC, uri, starts
"""


def add_events(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the view ``events``, given the view ``scores``."""
    connection.execute(_EVENTS)
