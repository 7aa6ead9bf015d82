"""Reviews in SQL: the table ``reviews``, and verdicts joined into rows of images.

A verdict counts for the object that was reviewed: an image and its etag. A row of an image that
has another etag has no verdict.
"""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import pyarrow as pa

from padim_dist.core.status import GOOD
from padim_dist.store.reviews import DEFECT, OK, ReviewBatch, read_reviews
from padim_dist.store.workspace import Workspace

REVIEWS_SCHEMA = pa.schema(
    [
        ("review", pa.int64()),
        *((name, pa.string()) for name in ("image_id", "uri", "member", "etag")),
        *(
            (name, pa.string())
            for name in ("verdict", "kind", "note", "who", "reviewed_at", "run_id")
        ),
        ("newest", pa.bool_()),
    ]
)
_TRUTH = (
    f"CASE verdict WHEN '{OK}' THEN '{GOOD}' "
    f"WHEN '{DEFECT}' THEN coalesce(kind, nullif(label, '{GOOD}'), '{DEFECT}') ELSE label END"
)
KNOWN = "truth IS NOT NULL AND (split = 'test' OR verdict IS NOT NULL AND in_model IS NOT NULL)"
"""Rows that count in metrics of scores. Labels count in the split ``test``, reviews in any split,
unless an older version scored an image with the model that it was fitted on."""
OUTSIDE = "(split = 'test' OR verdict IS NOT NULL) AND NOT coalesce(in_model, split = 'train')"
"""Rows of images that the model was not fitted on, known or not."""


def add_reviews_table(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> int:
    """Add the table ``reviews``, a row for each review; return the number of rows.

    Damaged files are left out, with a warning.
    """
    rows = _rows(read_reviews(workspace))
    connection.register("_reviews", pa.Table.from_pylist(rows, REVIEWS_SCHEMA))
    times = "reviewed_at::TIMESTAMPTZ AS reviewed_at"
    connection.execute(f"CREATE TABLE reviews AS SELECT * REPLACE ({times}) FROM _reviews")
    connection.unregister("_reviews")
    return len(rows)


def with_verdicts(query: str, reviewed: bool) -> str:
    """Return the SQL of a query with the columns ``verdict`` and ``kind`` of its images.

    Parameters
    ----------
    query : str
        A query with the columns image_id and etag; the table ``reviews`` is there.
    reviewed : bool
        Whether there are reviews; without them nothing is joined.
    """
    if not reviewed:
        return f"SELECT *, NULL::VARCHAR AS verdict, NULL::VARCHAR AS kind FROM ({query})"
    return (
        f"SELECT q.*, r.verdict, r.kind FROM ({query}) q "
        "LEFT JOIN (SELECT image_id, etag, verdict, kind FROM reviews WHERE newest) r "
        "ON r.image_id = q.image_id AND r.etag IS NOT DISTINCT FROM q.etag"
    )


def truth_columns(columns: Collection[str]) -> str:
    """Return the SQL of the columns that `KNOWN` and `OUTSIDE` need, of rows with verdicts.

    ``truth`` is ``good``, a kind of defect, or null: the newest review, else the label.
    ``in_model`` says whether the model was fitted on the image, so that its score is a
    leave-one-out score; null in runs of versions that had no such scores.
    """
    left_out = "left_out" if "left_out" in columns else "NULL::BOOLEAN"
    return f"{_TRUTH} AS truth, {left_out} AS in_model"


def _rows(batches: list[ReviewBatch]) -> list[dict[str, object]]:
    """Return the rows of the table, the oldest first."""
    rows: list[dict[str, object]] = [
        {
            **vars(review),
            "review": batch.number,
            "who": batch.who,
            "reviewed_at": batch.at,
            "run_id": batch.run_id,
        }
        for batch in batches
        for review in batch.reviews
    ]
    newest = {(row["image_id"], row["etag"]): place for place, row in enumerate(rows)}
    for place, row in enumerate(rows):
        row["newest"] = newest[row["image_id"], row["etag"]] == place
    return rows
