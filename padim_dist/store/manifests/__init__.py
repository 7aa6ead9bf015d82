"""Manifests in Parquet: a row group for each shard, so that a task reads only its rows.

Most manifests of a growing archive are written as the changes of an earlier one: see `chain.py`.
"""

from padim_dist.store.manifests.chain import NUMBER, REMOVED
from padim_dist.store.manifests.draft import (
    Draft,
    draft_manifest,
    draft_rows,
    put_delta,
    put_receipt,
    put_whole,
    write_manifest,
)
from padim_dist.store.manifests.manifest import (
    ManifestHead,
    Shard,
    Snapshot,
    find_head,
    find_images,
    images_by_group,
    manifest_files,
    read_manifest,
    read_masked,
    read_rows,
    read_shard,
    read_witnesses,
    root_of,
    rows_of_base,
)

__all__ = [
    "NUMBER",
    "REMOVED",
    "Draft",
    "ManifestHead",
    "Shard",
    "Snapshot",
    "draft_manifest",
    "draft_rows",
    "find_head",
    "find_images",
    "images_by_group",
    "manifest_files",
    "put_delta",
    "put_receipt",
    "put_whole",
    "read_manifest",
    "read_masked",
    "read_rows",
    "read_shard",
    "read_witnesses",
    "root_of",
    "rows_of_base",
    "write_manifest",
]
