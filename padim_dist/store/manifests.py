"""Manifests in Parquet: a row group a shard, so that a task reads its own rows alone."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.storage import Folder
from padim_dist.store.workspace import content_id

SHARDS_A_FILE = 64


@dataclass(frozen=True)
class Shard:
    """A run of manifest rows of one group and split: the unit of work.

    Attributes
    ----------
    shard : int
        Number in the manifest.
    group : str or None
        The group; None for images that have none.
    split : str
        ``"train"`` or ``"test"``.
    images : int
        Number of rows.
    bytes : int
        Their sizes added up.
    digest : str
        Content address of the rows, whatever the shard's number.
    """

    shard: int
    group: str | None
    split: str
    images: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """A manifest: what an archive held when it was indexed.

    Attributes
    ----------
    snapshot : str
        Its content address.
    settings : mapping
        The archive settings it was made with.
    shards : list of Shard
        In order.
    ignored : mapping of str to int
        Files that were left alone, by suffix or reason.
    created_at : str
        ISO 8601, UTC.
    """

    snapshot: str
    settings: Mapping[str, Any]
    shards: list[Shard]
    ignored: Mapping[str, int]
    created_at: str

    @property
    def images(self) -> int:
        """Number of rows."""
        return sum(shard.images for shard in self.shards)


def images_by_group(shards: Iterable[Shard]) -> dict[str, Counter[str]]:
    """Images of each group by split; those without a group are left out."""
    groups: dict[str, Counter[str]] = {}
    for shard in shards:
        if shard.group is not None:
            groups.setdefault(shard.group, Counter())[shard.split] += shard.images
    return groups


def write_manifest(
    folder: Folder,
    table: pa.Table,
    shards: pa.Table,
    settings: Mapping[str, Any],
    ignored: Mapping[str, int],
) -> Snapshot:
    """Write a sorted and cut manifest; ``manifest.json`` comes last and is its receipt."""
    entries = [Shard(**row) for row in shards.to_pylist()]
    digests = [entry.digest for entry in entries]
    snapshot = content_id({"settings": dict(settings), "shards": digests})
    start = 0
    for first in range(0, len(entries), SHARDS_A_FILE):
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
            for entry in entries[first : first + SHARDS_A_FILE]:
                writer.write_table(table.slice(start, entry.images), row_group_size=entry.images)
                start += entry.images
        folder.put(_file(snapshot, first), sink.getvalue())
    sink = io.BytesIO()
    pq.write_table(shards, sink)
    folder.put(f"manifests/{snapshot}/shards.parquet", sink.getvalue())
    created_at = datetime.now(UTC).isoformat()
    head = {"settings": dict(settings), "ignored": dict(ignored), "created_at": created_at}
    folder.put_json(f"manifests/{snapshot}/manifest.json", {**head, "images": len(table)})
    return Snapshot(snapshot, dict(settings), entries, dict(ignored), created_at)


def latest_manifest(folder: Folder, settings: Mapping[str, Any]) -> Snapshot | None:
    """Newest finished manifest with these archive settings."""
    found: tuple[str, str, dict[str, Any]] | None = None
    for snapshot in folder.list("manifests"):
        try:
            head = folder.read_json(f"manifests/{snapshot}/manifest.json")
        except FileNotFoundError:
            continue
        if head["settings"] == settings and (found is None or head["created_at"] > found[0]):
            found = (head["created_at"], snapshot, head)
    if found is None:
        return None
    created_at, snapshot, head = found
    rows = pq.read_table(pa.BufferReader(folder.read(f"manifests/{snapshot}/shards.parquet")))
    entries = [Shard(**row) for row in rows.to_pylist()]
    return Snapshot(snapshot, head["settings"], entries, head["ignored"], created_at)


def read_shard(folder: Folder, snapshot: str, shard: int) -> list[dict[str, Any]]:
    """Manifest rows of a shard."""
    path = folder.at(_file(snapshot, shard // SHARDS_A_FILE * SHARDS_A_FILE))
    with folder.fs.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
        rows: list[dict[str, Any]] = parquet.read_row_group(shard % SHARDS_A_FILE).to_pylist()
    return rows


def _file(snapshot: str, first: int) -> str:
    return f"manifests/{snapshot}/part-{first // SHARDS_A_FILE:05d}.parquet"
