"""Manifests in Parquet: a row group for each shard, so that a task reads only its rows."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.store.parquet import open_parquet
from padim_dist.store.records import find_record, make_record
from padim_dist.store.workspace import Settings, Workspace, content_id

SHARDS_A_FILE = 64
SHARDS_SCHEMA = pa.schema(
    {"shard": "int32", "group": "string", "split": "string"}
    | {"images": "int64", "bytes": "int64", "digest": "string"}
)
"""Columns of the table of shards: the attributes of `Shard`."""


@dataclass(frozen=True)
class Shard:
    """Consecutive manifest rows of one group and split: the unit of work.

    Attributes
    ----------
    shard, images, bytes : int
        Number in the manifest; rows; bytes of its images.
    group : str or None
        The group; None for images that have none.
    split, digest : str
        ``"train"`` or ``"test"``; content address of the rows, whatever the shard's number.
    """

    shard: int
    group: str | None
    split: str
    images: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """A manifest: the content of an archive when it was indexed.

    Attributes
    ----------
    snapshot, created_at : str
        Its content address; ISO 8601, UTC.
    settings : mapping
        The archive settings that it was made with.
    shards : list of Shard
        Shards, in order.
    ignored : mapping of str to int
        Counts of ignored files, by suffix or reason.
    below : str
        Folder or tar file below which the images were.
    """

    snapshot: str
    settings: Mapping[str, Any]
    shards: list[Shard]
    ignored: Mapping[str, int]
    created_at: str
    below: str

    @property
    def images(self) -> int:
        """Number of rows."""
        return sum(shard.images for shard in self.shards)


@dataclass(frozen=True)
class ManifestHead:
    """The file ``manifest.json``, the receipt of a manifest.

    `root` is missing in manifests of versions whose archives could not move.
    """

    settings: Mapping[str, Any]
    ignored: Mapping[str, int]
    created_at: str
    root: str | None = None

    @property
    def below(self) -> str:
        """Folder (or tar file) below which the images were."""
        return self.root or root_of(self.settings)


def images_by_group(shards: Iterable[Shard]) -> dict[str, Counter[str]]:
    """Count the images of each group by split, without images that have no group."""
    groups: dict[str, Counter[str]] = {}
    for shard in shards:
        if shard.group is not None:
            groups.setdefault(shard.group, Counter())[shard.split] += shard.images
    return groups


def write_manifest(
    workspace: Workspace,
    shards: Iterable[tuple[Shard, pa.Table]],
    settings: Settings,
    ignored: Mapping[str, int],
    drafts: Path,
    root: str,
) -> Snapshot:
    """Write a manifest, shard by shard; ``manifest.json``, written last, is its receipt.

    Its files are in the local folder `drafts` until the id of the snapshot is known, which depends
    on all of them.
    """
    entries: list[Shard] = []
    files: list[Path] = []
    shards = iter(shards)
    while (first := next(shards, None)) is not None:
        files.append(drafts / f"part-{len(files):05d}.parquet")
        with pq.ParquetWriter(files[-1], first[1].schema, compression="zstd") as writer:
            for shard, rows in chain([first], islice(shards, SHARDS_A_FILE - 1)):
                writer.write_table(rows, row_group_size=len(rows))
                entries.append(shard)
    digests = [entry.digest for entry in entries]
    snapshot = content_id({"settings": dict(settings), "shards": digests})
    for file in files:
        workspace.folder.put(f"{workspace.manifest(snapshot)}/{file.name}", file.read_bytes())
        file.unlink()
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(entry) for entry in entries], SHARDS_SCHEMA), sink)
    workspace.folder.put(f"{workspace.manifest(snapshot)}/shards.parquet", sink.getvalue())
    now = datetime.now(UTC).isoformat()
    made = Snapshot(snapshot, dict(settings), entries, dict(ignored), now, root)
    names = ("settings", "ignored", "created_at", "images")
    head = {**{name: getattr(made, name) for name in names}, "root": root}
    workspace.folder.put_json(f"{workspace.manifest(snapshot)}/manifest.json", head)
    return made


def read_manifest(workspace: Workspace, snapshot: str) -> Snapshot | None:
    """Read a finished manifest; None if there is none with this id."""
    path, advice = workspace.manifest(snapshot), _advice(workspace, snapshot)
    head = find_head(workspace, snapshot)
    if head is None:
        return None
    with open_parquet(workspace.folder, f"{path}/shards.parquet", advice) as parquet:
        rows = parquet.read().to_pylist()
    file = workspace.at(f"{path}/shards.parquet")
    entries = [make_record(Shard, row, file, advice) for row in rows]
    return Snapshot(snapshot, head.settings, entries, head.ignored, head.created_at, head.below)


def find_head(workspace: Workspace, snapshot: str) -> ManifestHead | None:
    """Read the receipt of a manifest; None if there is none with this id."""
    path = f"{workspace.manifest(snapshot)}/manifest.json"
    return find_record(workspace.folder, path, ManifestHead, _advice(workspace, snapshot))


def root_of(settings: Settings) -> str:
    """Return the folder (or tar file) below which relative paths are: of a table, its folder."""
    url = str(settings["url"])
    return (url.rpartition("/")[0] or "/") if settings["layout"] == "table" else url


def manifest_files(workspace: Workspace, snapshot: str) -> list[str]:
    """Return the URLs of the files with the rows of a manifest."""
    path = workspace.manifest(snapshot)
    names = workspace.folder.list(path)
    return [workspace.at(path, name) for name in names if name.startswith("part-")]


def read_shards(
    workspace: Workspace, snapshot: Snapshot, splits: Sequence[str]
) -> Iterator[pa.Table]:
    """Read the rows of the shards of some splits, in order, a shard at a time."""
    for first in range(0, len(snapshot.shards), SHARDS_A_FILE):
        shards = snapshot.shards[first : first + SHARDS_A_FILE]
        wanted = [number for number, shard in enumerate(shards) if shard.split in splits]
        if wanted:
            with _opened(workspace, snapshot.snapshot, first) as parquet:
                for number in wanted:
                    yield parquet.read_row_group(number)


def read_shard(
    workspace: Workspace, snapshot: str, shard: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the rows of a shard: some columns, or all."""
    with _opened(workspace, snapshot, shard) as parquet:
        return parquet.read_row_group(shard % SHARDS_A_FILE, columns)


def read_masked(workspace: Workspace, snapshot: str) -> Iterator[pa.Table]:
    """Read the rows of a manifest that have a mask; shards without masks are skipped."""
    path = workspace.manifest(snapshot)
    names = [name for name in workspace.folder.list(path) if name.startswith("part-")]
    for name in names:
        file, advice = f"{path}/{name}", _advice(workspace, snapshot)
        with open_parquet(workspace.folder, file, advice) as parquet:
            column = parquet.schema_arrow.get_field_index("mask_uri")
            for number in range(parquet.num_row_groups):
                group = parquet.metadata.row_group(number)
                statistics = group.column(column).statistics
                if statistics is None or statistics.null_count < group.num_rows:
                    table = parquet.read_row_group(number)
                    yield table.filter(pc.is_valid(table["mask_uri"]))


def find_images(
    workspace: Workspace, snapshot: str, image_ids: Collection[str]
) -> dict[int, dict[str, str | None]]:
    """Return which of some images a manifest has: their etags by id, by shard."""
    wanted = pa.array(sorted(image_ids), pa.string())
    advice = _advice(workspace, snapshot)
    path, found = workspace.manifest(snapshot), dict[int, dict[str, str | None]]()
    for name in sorted(n for n in workspace.folder.list(path) if n.startswith("part-")):
        with open_parquet(workspace.folder, f"{path}/{name}", advice) as parquet:
            rows = parquet.read(["shard", "image_id", "etag"])
        rows = rows.filter(pc.is_in(rows["image_id"], wanted))
        columns = (rows[name].to_pylist() for name in ("shard", "image_id", "etag"))
        for shard, image_id, etag in zip(*columns, strict=True):
            found.setdefault(shard, {})[image_id] = etag
    return found


def read_witnesses(workspace: Workspace, snapshot: Snapshot, most: int = 4) -> tuple[str, ...]:
    """Return the uris of a few images from all over a manifest."""
    shards = snapshot.shards
    spread = sorted({len(shards) * i // most for i in range(most)}) if shards else []
    tables = [read_shard(workspace, snapshot.snapshot, number, ["uri"]) for number in spread]
    return tuple(dict.fromkeys(str(table["uri"][0]) for table in tables))


@contextmanager
def _opened(workspace: Workspace, snapshot: str, shard: int) -> Iterator[pq.ParquetFile]:
    """Open the file with the rows of a shard."""
    path = f"{workspace.manifest(snapshot)}/part-{shard // SHARDS_A_FILE:05d}.parquet"
    with open_parquet(workspace.folder, path, _advice(workspace, snapshot)) as parquet:
        yield parquet


def _advice(workspace: Workspace, snapshot: str) -> str:
    """Return what to do about a damaged file of a manifest."""
    return (
        "Restore it from a copy of the workspace, or remove "
        f"{workspace.at(workspace.manifest(snapshot))} and run 'padim-dist index': if the archive "
        "is as it was then, it writes the same manifest"
    )
