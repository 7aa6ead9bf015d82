"""Rows out of a spool."""

from __future__ import annotations

from typing import Any

from padim_dist.archive.listing.spool import Spool


def sorted_rows(spool: Spool) -> list[dict[str, Any]]:
    """All rows, in order."""
    return [row for table in spool.sorted().tables() for row in table.to_pylist()]
