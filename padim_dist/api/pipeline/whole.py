"""Manifests that were written as changes, written with all of their rows when tasks need shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from padim_dist.api.settings.places import workspace_of
from padim_dist.archive.listing.cut import number_rows, rows_digest
from padim_dist.archive.listing.workbench import Workbench
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.config import SPLITS, Config
from padim_dist.errors import DamagedFileError
from padim_dist.store.manifests import (
    Shard,
    Snapshot,
    draft_rows,
    put_whole,
    read_rows,
)

_ADVICE = (
    "Remove the folder and run 'padim-dist index': if the archive is as it was then, it writes the "
    "same manifest"
)


def make_whole(config: Config, manifest: Snapshot) -> Snapshot:
    """Return a manifest whose shards can be read.

    Only a fit or a score of all images needs one: nights read the manifests of what came.

    Raises
    ------
    DamagedFileError
        If the rows are not those that were indexed.
    """
    if manifest.chain is None:
        return manifest
    workspace = workspace_of(config)
    with Workbench() as bench:
        kept = bench.keep("rows", read_rows(workspace, manifest, SPLITS), ROWS_SCHEMA)
        file = workspace.at(workspace.manifest(manifest.snapshot))
        shards = _cut_as_before(bench.sort(kept).tables(), manifest, file)
        return put_whole(workspace, draft_rows(manifest, shards, bench.folder))


def _cut_as_before(
    tables: Iterable[pa.Table], manifest: Snapshot, file: str
) -> Iterator[tuple[Shard, pa.Table]]:
    """Cut sorted rows into the shards of a manifest; yield each with its rows."""
    held = ROWS_SCHEMA.empty_table()
    tables = iter(tables)
    for shard in manifest.shards:
        while len(held) < shard.images and (more := next(tables, None)) is not None:
            held = pa.concat_tables([held, more])
        rows = held.slice(0, shard.images).combine_chunks()
        held = held.slice(shard.images)
        if rows_digest(rows) != shard.digest:
            what = f"shard {shard.shard} has other rows than when it was indexed"
            raise DamagedFileError(file, what, _ADVICE)
        yield shard, number_rows(rows, shard.shard)
    if len(held) or next(tables, None) is not None:
        raise DamagedFileError(file, "it has more rows than when it was indexed", _ADVICE)
