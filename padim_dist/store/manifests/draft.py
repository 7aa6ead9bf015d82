"""Writing manifests: drafted in a local folder, then put as a whole or as changes."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.store.manifests.chain import Chain, DeltaFile
from padim_dist.store.manifests.manifest import (
    SHARDS_A_FILE,
    SHARDS_SCHEMA,
    Shard,
    Snapshot,
    spread_over,
)
from padim_dist.store.workspace import Settings, Workspace, content_id


@dataclass(frozen=True)
class Draft:
    """A manifest whose files are in a local folder: its id depends on all of them."""

    manifest: Snapshot
    files: Sequence[Path]


def draft_manifest(
    shards: Iterable[tuple[Shard, pa.Table]],
    settings: Settings,
    ignored: Mapping[str, int],
    drafts: Path,
    root: str,
    reader: str | None = None,
) -> Draft:
    """Write the files of a manifest into the local folder `drafts`, shard by shard."""
    entries: list[Shard] = []
    firsts: list[str] = []

    def noted() -> Iterator[tuple[Shard, pa.Table]]:
        for shard, rows in shards:
            entries.append(shard)
            firsts.append(str(rows["uri"][0]))
            yield shard, rows

    files = _write_files(noted(), drafts)
    digests = [entry.digest for entry in entries]
    snapshot = content_id({"settings": dict(settings), "shards": digests})
    now = datetime.now(UTC).isoformat()
    witnesses = [firsts[place] for place in spread_over(len(firsts))]
    said = (dict(ignored), now, root, witnesses, None, reader)
    made = Snapshot(snapshot, dict(settings), entries, *said)
    return Draft(made, files)


def draft_rows(manifest: Snapshot, shards: Iterable[tuple[Shard, pa.Table]], drafts: Path) -> Draft:
    """Write the files of a manifest whose shards are known into the local folder `drafts`."""
    return Draft(manifest, _write_files(shards, drafts))


def _write_files(shards: Iterable[tuple[Shard, pa.Table]], drafts: Path) -> list[Path]:
    files: list[Path] = []
    shards = iter(shards)
    while (first := next(shards, None)) is not None:
        files.append(drafts / f"part-{len(files):05d}.parquet")
        with pq.ParquetWriter(files[-1], first[1].schema, compression="zstd") as writer:
            for _, rows in chain([first], islice(shards, SHARDS_A_FILE - 1)):
                writer.write_table(rows, row_group_size=len(rows))
    return files


def put_whole(workspace: Workspace, draft: Draft) -> Snapshot:
    """Write a manifest with all of its rows; ``manifest.json``, written last, is its receipt."""
    made = draft.manifest
    for file in draft.files:
        workspace.folder.put(f"{workspace.manifest(made.snapshot)}/{file.name}", file.read_bytes())
    return _put_head(workspace, replace(made, chain=None))


def put_delta(workspace: Workspace, draft: Draft, earlier: Snapshot, delta: Path) -> Snapshot:
    """Write a manifest as the changes of an earlier one, if it may be: see `Chain.may_grow`.

    Otherwise it is written with all of its rows. `delta` is a Parquet file with the columns of the
    rows and `REMOVED`.
    """
    made, rows = draft.manifest, pq.read_metadata(delta).num_rows
    before = earlier.chain or Chain(earlier.snapshot, earlier.images)
    if not before.may_grow(rows):
        return put_whole(workspace, draft)
    path = f"{workspace.manifest(made.snapshot)}/delta-{uuid.uuid4().hex[:16]}.parquet"
    workspace.folder.put(path, delta.read_bytes())
    return _put_head(workspace, replace(made, chain=before.with_delta(DeltaFile(path, rows))))


def write_manifest(
    workspace: Workspace,
    shards: Iterable[tuple[Shard, pa.Table]],
    settings: Settings,
    ignored: Mapping[str, int],
    drafts: Path,
    root: str,
) -> Snapshot:
    """Write a manifest with all of its rows, by way of the local folder `drafts`."""
    return put_whole(workspace, draft_manifest(shards, settings, ignored, drafts, root))


def _put_head(workspace: Workspace, made: Snapshot) -> Snapshot:
    path, sink = workspace.manifest(made.snapshot), io.BytesIO()
    rows = [asdict(entry) for entry in made.shards]
    pq.write_table(pa.Table.from_pylist(rows, SHARDS_SCHEMA), sink)
    workspace.folder.put(f"{path}/shards.parquet", sink.getvalue())
    return put_receipt(workspace, made)


def put_receipt(workspace: Workspace, made: Snapshot) -> Snapshot:
    """Write ``manifest.json``, the receipt of a manifest whose other files are written."""
    names = ("settings", "ignored", "created_at", "images", "witnesses")
    head = {**{name: getattr(made, name) for name in names}, "root": made.below}
    if made.chain:
        head["chain"] = asdict(made.chain)
    if made.reader:
        head["reader"] = made.reader
    workspace.folder.put_json(f"{workspace.manifest(made.snapshot)}/manifest.json", head)
    return made
