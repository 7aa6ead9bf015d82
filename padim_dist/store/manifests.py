"""Manifests in Parquet: a row group a shard, so that a task reads its own rows alone."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.storage import Folder
from padim_dist.store.workspace import content_id

SHARDS_A_FILE = 64
SHARDS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("images", pa.int64()),
        ("bytes", pa.int64()),
        ("digest", pa.string()),
    ]
)
"""A row a `Shard`."""


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
        Of its images.
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
    shards: Iterable[tuple[Mapping[str, Any], pa.Table]],
    settings: Mapping[str, Any],
    ignored: Mapping[str, int],
    drafts: Path,
) -> Snapshot:
    """Write a manifest, shard by shard; ``manifest.json`` comes last and is its receipt.

    Parameters
    ----------
    folder : Folder
        The workspace.
    shards : iterable of (mapping, pyarrow.Table)
        Fields of each `Shard`, and its rows.
    settings, ignored
        As in `Snapshot`.
    drafts : Path
        Folder of this machine for the files until the snapshot's name is known, which
        depends on all of them.
    """
    entries: list[Shard] = []
    files: list[Path] = []
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for fields, rows in shards:
            if len(entries) % SHARDS_A_FILE == 0:
                stack.close()
                files.append(drafts / f"part-{len(files):05d}.parquet")
                writer = stack.enter_context(
                    pq.ParquetWriter(files[-1], rows.schema, compression="zstd")
                )
            assert writer is not None
            writer.write_table(rows, row_group_size=len(rows))
            entries.append(Shard(**fields))
    digests = [entry.digest for entry in entries]
    snapshot = content_id({"settings": dict(settings), "shards": digests})
    for number, file in enumerate(files):
        folder.put(_file(snapshot, number * SHARDS_A_FILE), file.read_bytes())
        file.unlink()
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(entry) for entry in entries], SHARDS_SCHEMA), sink)
    folder.put(f"manifests/{snapshot}/shards.parquet", sink.getvalue())
    created_at = datetime.now(UTC).isoformat()
    made = Snapshot(snapshot, dict(settings), entries, dict(ignored), created_at)
    head = {"settings": made.settings, "ignored": made.ignored, "created_at": created_at}
    folder.put_json(f"manifests/{snapshot}/manifest.json", {**head, "images": made.images})
    return made


def read_manifest(folder: Folder, snapshot: str) -> Snapshot | None:
    """A finished manifest; None where there is none of this name."""
    head = folder.find_json(f"manifests/{snapshot}/manifest.json")
    if head is None:
        return None
    rows = pq.read_table(pa.BufferReader(folder.read(f"manifests/{snapshot}/shards.parquet")))
    entries = [Shard(**row) for row in rows.to_pylist()]
    return Snapshot(snapshot, head["settings"], entries, head["ignored"], head["created_at"])


def read_shards(folder: Folder, snapshot: Snapshot, splits: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of a manifest's shards of these splits, a shard at a time, in order."""
    for first in range(0, len(snapshot.shards), SHARDS_A_FILE):
        shards = snapshot.shards[first : first + SHARDS_A_FILE]
        wanted = [number for number, shard in enumerate(shards) if shard.split in splits]
        if wanted:
            with _opened(folder, snapshot.snapshot, first) as parquet:
                for number in wanted:
                    yield parquet.read_row_group(number)


def read_shard(folder: Folder, snapshot: str, shard: int) -> list[dict[str, Any]]:
    """Manifest rows of a shard."""
    with _opened(folder, snapshot, shard // SHARDS_A_FILE * SHARDS_A_FILE) as parquet:
        rows: list[dict[str, Any]] = parquet.read_row_group(shard % SHARDS_A_FILE).to_pylist()
    return rows


@contextmanager
def _opened(folder: Folder, snapshot: str, first: int) -> Iterator[pq.ParquetFile]:
    """The file that begins with this shard."""
    path = folder.at(_file(snapshot, first))
    with folder.fs.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
        yield parquet


def _file(snapshot: str, first: int) -> str:
    return f"manifests/{snapshot}/part-{first // SHARDS_A_FILE:05d}.parquet"
