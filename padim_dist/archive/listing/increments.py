"""Differences between two listings, and the images that are not scored yet.

The tables have the columns of `ROWS_SCHEMA` and may be larger than memory. The uri and, inside
a tar file, the member identify an image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from padim_dist.archive.listing.workbench import SortedRows, Workbench
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.redaction import HIDDEN

_COMPARED = ("offset", "length", "etag", "group", "split")
SCORED_SCHEMA = pa.schema([ROWS_SCHEMA.field(n) for n in ("uri", "member", "etag", "group")])
"""Identity of a scored image: with another etag or group it has to be scored again."""

_SAME_URI = "a.uri = b.uri"
_SAME_IMAGE = f"{_SAME_URI} AND a.member IS NOT DISTINCT FROM b.member"
_DIFFERENT = " OR ".join(f'a."{name}" IS DISTINCT FROM b."{name}"' for name in _COMPARED)
_CHANGES = f"""
SELECT
    CASE WHEN b.uri IS NULL THEN 'new' WHEN a.uri IS NULL THEN 'gone' ELSE 'changed' END AS change,
    coalesce(a.uri, b.uri) AS uri, coalesce(a.member, b.member) AS member,
    a.etag AS etag, b.etag AS previous_etag,
    CASE WHEN a.uri IS NULL THEN b."group" ELSE a."group" END AS "group",
    coalesce(a.split, b.split) AS split
FROM now AS a FULL JOIN earlier AS b ON {_SAME_IMAGE}
WHERE a.uri IS NULL OR b.uri IS NULL OR {_DIFFERENT}
"""
_CAME = f"""
SELECT a.* FROM now AS a LEFT JOIN earlier AS b ON {_SAME_IMAGE}
WHERE b.uri IS NULL OR {_DIFFERENT}
"""
_SAME_ROW = " AND ".join(f'a."{n}" IS NOT DISTINCT FROM b."{n}"' for n in ROWS_SCHEMA.names)
_DELTA = f"""
SELECT a.*, b.number AS removed FROM now AS a FULL JOIN earlier AS b ON {_SAME_URI} AND {_SAME_ROW}
WHERE a.uri IS NULL OR b.uri IS NULL
"""
NUMBERED_SCHEMA = ROWS_SCHEMA.append(pa.field("number", pa.int64()))
"""Rows of a manifest with their numbers in it."""
_COUNTS = "SELECT change, count(*) FROM changes GROUP BY ALL"
_SAME_BYTES = f"""
{_SAME_IMAGE} AND a.etag IS NOT DISTINCT FROM b.etag AND a."group" IS NOT DISTINCT FROM b."group"
"""
_NOT_SCORED = f"SELECT * FROM rows AS a WHERE NOT EXISTS (FROM scored AS b WHERE {_SAME_BYTES})"
# Score tables hold addresses without their secrets; few have one.
_REDACTED = f"SELECT 1 FROM scored WHERE contains(uri, '{HIDDEN}') LIMIT 1"
_CAME_THEN = f"{_NOT_SCORED} AND EXISTS (FROM came AS b WHERE {_SAME_BYTES})"


@dataclass(frozen=True)
class Increment:
    """Differences between a listing and an earlier one.

    Attributes
    ----------
    rows : SortedRows
        The present rows of new and changed images.
    changes : Path
        Parquet file with a row per difference: change (``new``, ``changed``, ``gone``), uri,
        member, etag, previous_etag, group, split.
    counts : mapping of str to int
        Number of differences by kind.
    """

    rows: SortedRows
    changes: Path
    counts: dict[str, int]


def compare(bench: Workbench, now: Path, earlier: Path) -> Increment:
    """Compare a listing with an earlier one.

    Parameters
    ----------
    bench : Workbench
        Runs the joins.
    now, earlier : Path
        Parquet files with the columns of `ROWS_SCHEMA`.
    """
    tables = {"now": now, "earlier": earlier}
    changes = bench.select("changes", tables, _CHANGES, is_kept=True)
    counts = bench.ask({"changes": changes}, lambda database: database.sql(_COUNTS).fetchall())
    return Increment(bench.sort(bench.select("came", tables, _CAME)), changes, dict(counts))


def delta(bench: Workbench, now: Path, earlier: Path) -> Path:
    """Return what makes the rows of a listing from those of an earlier one.

    Unlike `compare` it compares all columns.

    Parameters
    ----------
    bench : Workbench
        Runs the join.
    now, earlier : Path
        Parquet files with the columns of `ROWS_SCHEMA` and, the earlier one, `NUMBERED_SCHEMA`.

    Returns
    -------
    Path
        Parquet file with the columns of `ROWS_SCHEMA`, for rows that are new or different, and
        ``removed``: the numbers of rows that are not there any more.
    """
    return bench.select("delta", {"now": now, "earlier": earlier}, _DELTA, is_kept=True)


def not_scored(
    bench: Workbench,
    rows: Iterable[pa.Table],
    scored: Iterable[pa.Table],
    came: Iterable[pa.Table] | None = None,
) -> SortedRows:
    """Return the rows of a manifest that were not scored.

    Parameters
    ----------
    bench : Workbench
        Runs the joins.
    rows, scored : iterable of pyarrow.Table
        Rows of the manifest; scored images (`SCORED_SCHEMA`).
    came : iterable of pyarrow.Table, optional
        Rows of other manifests: only images that are also in one of them, with the same etag and
        group, are returned.
    """
    tables = {
        "rows": bench.keep("rows", rows, ROWS_SCHEMA),
        "scored": bench.keep("scored", scored, SCORED_SCHEMA),
    }
    query = _NOT_SCORED
    if came is not None:
        tables["came"] = bench.keep("came", came, SCORED_SCHEMA)
        query = _CAME_THEN
    if bench.ask({"scored": tables["scored"]}, lambda db: db.sql(_REDACTED).fetchall()):
        query = query.replace(_SAME_URI, "redacted(a.uri) = redacted(b.uri)")
    return bench.sort(bench.select("not_scored", tables, query))
