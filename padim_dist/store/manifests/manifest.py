"""Manifests in Parquet: a row group for each shard, so that a task reads only its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.store.manifests.chain import Chain, read_chain
from padim_dist.store.parquet import open_parquet
from padim_dist.store.records import find_record, make_record
from padim_dist.store.workspace import Settings, Workspace

SHARDS_A_FILE = 64
_WITNESSES = 4
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
    witnesses : sequence of str
        Uris of a few images from all over it; none in manifests of version 0.4 and earlier.
    chain : Chain or None
        The manifest that it is the changes of; None if it is whole: then shards can be read.
    reader : str or None
        What read the films of the archive; None if there are none, and before version 0.6.
    """

    snapshot: str
    settings: Mapping[str, Any]
    shards: list[Shard]
    ignored: Mapping[str, int]
    created_at: str
    below: str
    witnesses: Sequence[str] = ()
    chain: Chain | None = None
    reader: str | None = None

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
    witnesses: Sequence[str] = ()
    chain: Chain | None = None
    reader: str | None = None

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
    rest = (head.ignored, head.created_at, head.below, head.witnesses, head.chain, head.reader)
    return Snapshot(snapshot, head.settings, entries, *rest)


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


def rows_of_base(workspace: Workspace, snapshot: str, chain: Chain) -> dict[str, int]:
    """Return the URLs of the files of the whole manifest of a chain, in order, with their rows.

    Raises
    ------
    DamagedFileError
        If the whole manifest is not complete: the numbers of rows would be others.
    """
    base = read_manifest(workspace, chain.base)
    shards = base.shards if base else []
    cut = (shards[first : first + SHARDS_A_FILE] for first in range(0, len(shards), SHARDS_A_FILE))
    rows = [sum(shard.images for shard in own) for own in cut]
    names = [f"part-{number:05d}.parquet" for number in range(len(rows))]
    wanted = [workspace.at(workspace.manifest(chain.base), name) for name in names]
    found = manifest_files(workspace, chain.base)
    if found != wanted or sum(rows) != chain.images:
        file = workspace.at(workspace.manifest(chain.base))
        what = (
            f"it lists {sum(rows):,} rows of {chain.images:,}, and has {len(found)} files with "
            f"rows of {len(wanted)}"
        )
        raise DamagedFileError(file, what, _advice(workspace, snapshot))
    return dict(zip(found, rows, strict=True))


def read_rows(
    workspace: Workspace, manifest: Snapshot, splits: Sequence[str]
) -> Iterator[pa.Table]:
    """Read the rows of some splits with their numbers (`NUMBER`), in no particular order."""
    chain = manifest.chain or Chain(manifest.snapshot, manifest.images)
    # Without this manifest an index writes it whole.
    advice, wanted = _advice(workspace, manifest.snapshot), pa.array(splits, pa.string())
    for table in read_chain(workspace, chain, _whole_rows(workspace, chain.base, advice), advice):
        yield table.filter(pc.is_in(table["split"], wanted))


def _whole_rows(workspace: Workspace, snapshot: str, advice: str) -> Iterator[pa.Table]:
    """Read all rows of a whole manifest, in order, a shard at a time."""
    path = workspace.manifest(snapshot)
    for name in workspace.folder.list(path):
        if name.startswith("part-"):
            with open_parquet(workspace.folder, f"{path}/{name}", advice) as parquet:
                for number in range(parquet.num_row_groups):
                    yield parquet.read_row_group(number).drop_columns(["shard"])


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


def read_witnesses(workspace: Workspace, manifest: Snapshot) -> tuple[str, ...]:
    """Return the uris of a few images from all over a manifest."""
    found: Iterable[str] = manifest.witnesses
    if not found:  # of version 0.4 or earlier
        spread = spread_over(len(manifest.shards))
        tables = (read_shard(workspace, manifest.snapshot, number, ["uri"]) for number in spread)
        found = (str(table["uri"][0]) for table in tables)
    return tuple(dict.fromkeys(found))


def spread_over(shards: int) -> list[int]:
    """Return the numbers of a few shards from all over a manifest."""
    return sorted({shards * i // _WITNESSES for i in range(_WITNESSES)}) if shards else []


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
