"""Index: from an archive to a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from padim_dist.api.common import archive_of, archive_settings, logger, workspace_of
from padim_dist.archive.layouts import folder as folder_layout
from padim_dist.archive.layouts import list_images, mvtec
from padim_dist.archive.manifest import sort_and_cut
from padim_dist.archive.tables import list_table
from padim_dist.config import Config
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.manifests import Snapshot, images_by_group, latest_manifest, write_manifest


@dataclass(frozen=True)
class IndexResult:
    """What an archive holds.

    Attributes
    ----------
    snapshot : str
        Content address of the manifest.
    images, shards : int
        Rows, and the shards that they are cut into.
    groups : mapping
        Images by group and split.
    without_group : int
        Images whose path does not match ``archive.group``.
    ignored : mapping
        Files that were left alone, by suffix or reason.
    """

    snapshot: str
    images: int
    shards: int
    groups: dict[str, dict[str, int]]
    without_group: int
    ignored: dict[str, int]


def index(config: Config, listener: Listener = ignore) -> IndexResult:
    """List the archive and write a manifest of it.

    Raises
    ------
    ArchiveError
        If there is no such archive, or no image in it.
    """
    snapshot = make_manifest(config, listener)
    groups = {
        group: {"train": counts["train"], "test": counts["test"]}
        for group, counts in images_by_group(snapshot.shards).items()
    }
    without_group = sum(shard.images for shard in snapshot.shards if shard.group is None)
    return IndexResult(
        snapshot.snapshot,
        snapshot.images,
        len(snapshot.shards),
        groups,
        without_group,
        dict(snapshot.ignored),
    )


def cut_archive(config: Config) -> tuple[pa.Table, pa.Table, Mapping[str, int]]:
    """List the archive and cut it: its rows, its shards, and what was left alone."""
    archive = config.archive
    place = archive_of(config)
    if archive.layout == "table":
        listing = list_table(place, archive.train, archive.group)
    else:
        layout = mvtec if archive.layout == "mvtec" else folder_layout(archive.train)
        listing = list_images(place, layout, archive.group)
    return *sort_and_cut(listing.images, archive.shard_images), listing.ignored


def make_manifest(config: Config, listener: Listener = ignore) -> Snapshot:
    """List the archive, cut it into shards, and keep the manifest."""
    listener(Progress("index", 0, 0))
    table, shards, ignored = cut_archive(config)
    folder = workspace_of(config).folder
    snapshot = write_manifest(folder, table, shards, archive_settings(config), ignored)
    listener(Progress("index", len(table), len(table)))
    return snapshot


def current_manifest(config: Config, listener: Listener = ignore) -> Snapshot:
    """Newest manifest of these archive settings; made now if there is none."""
    snapshot = latest_manifest(workspace_of(config).folder, archive_settings(config))
    if snapshot is None:
        logger.info("no manifest of %s yet: indexing it", config.archive.url)
        snapshot = make_manifest(config, listener)
    return snapshot
