"""Rows of images for tests, and the rows of a spool."""

from __future__ import annotations

from typing import Any

from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.rows import ImageRow


def sorted_rows(spool: Spool) -> list[dict[str, Any]]:
    """Return all rows, in order."""
    return [row for table in spool.sorted().tables() for row in table.to_pylist()]


def image_row(uri: object, length: int = 0, group: str | None = "a", **more: Any) -> ImageRow:
    """Return the row of a file; `more` are further columns, such as those of a tar member."""
    plain = {"member": None, "offset": 0, "size": length, "etag": None, "split": "test"}
    values = {**plain, "image_id": "", "uri": str(uri), "length": length, "group": group, **more}
    return ImageRow(**values)
