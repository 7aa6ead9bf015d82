"""Rows of a shard, for tasks; images that were set aside are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.rows import ImageRow, RefusedRow, to_rows
from padim_dist.core.status import UNREADABLE, UNSETTLED
from padim_dist.store.manifests import Shard, read_shard
from padim_dist.store.records import find_receipt
from padim_dist.store.workspace import Workspace, content_id


@dataclass(frozen=True)
class ShardSource:
    """A shard of the manifest `snapshot` in a workspace, and how its images are read."""

    workspace: Workspace
    snapshot: str
    shard: Shard
    reading: Reading

    @property
    def set_aside_path(self) -> str:
        """Path of the images set aside; it depends on the rows and on the pixel limit."""
        content = {"rows": self.shard.digest, "max_pixels": self.reading.reader.max_pixels}
        return self.workspace.set_aside(content_id(content))

    def read(self) -> list[ImageRow]:
        """Read all rows."""
        return to_rows(read_shard(self.workspace, self.snapshot, self.shard.shard))

    def rows(self) -> list[ImageRow | RefusedRow]:
        """Read all rows; images that were set aside are refused, with the reason."""
        aside = find_receipt(self.workspace.folder, self.set_aside_path, dict[str, str]) or {}
        return [
            RefusedRow(row, UNREADABLE, aside[row.image_id]) if row.image_id in aside else row
            for row in self.read()
        ]


def none_can_be_reached(
    rows: Iterable[ImageRow | RefusedRow], image_ids: Collection[str], reading: Reading
) -> bool:
    """Return whether none of some images can be reached: reading them settles none of them."""
    wanted = (row for row in rows if isinstance(row, ImageRow) and row.image_id in image_ids)
    images = read_ahead(wanted, reading, reading.requests)
    return all(image.status in UNSETTLED for image in images)
