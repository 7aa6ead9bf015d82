"""Index: from an archive to a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from padim_dist.api.places import archive_of, archive_settings, logger, workspace_of
from padim_dist.archive.layouts import folder as folder_layout
from padim_dist.archive.layouts import list_images, mvtec
from padim_dist.archive.manifest import cut
from padim_dist.archive.spool import Spool
from padim_dist.archive.tables import list_table
from padim_dist.archive.tars import list_tars
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


@contextmanager
def list_archive(config: Config, listener: Listener = ignore) -> Iterator[Spool]:
    """List the archive: a spool with all its rows, and what was left alone."""
    archive, place = config.archive, archive_of(config)

    def tell(listed: int) -> None:
        listener(Progress("index", 0, listed))

    tell(0)
    with Spool() as spool:
        if archive.layout == "table":
            list_table(place, archive.train, archive.group, spool, tell)
        elif archive.layout == "tar":
            list_tars(place, folder_layout(archive.train), archive.group, spool, tell)
        else:
            layout = mvtec if archive.layout == "mvtec" else folder_layout(archive.train)
            list_images(place, layout, archive.group, spool, tell)
        yield spool


def cut_archive(spool: Spool, config: Config) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Fields of each shard of a listed archive, and its rows."""
    rows = spool.sort()
    return cut(rows.tables(), rows.totals, config.archive.shard_images)


def make_manifest(config: Config, listener: Listener = ignore) -> Snapshot:
    """List the archive, cut it into shards, and keep the manifest."""
    folder = workspace_of(config).folder
    with list_archive(config, listener) as spool:
        shards = cut_archive(spool, config)
        settings = archive_settings(config)
        snapshot = write_manifest(folder, shards, settings, spool.ignored, spool.folder)
    listener(Progress("index", snapshot.images, snapshot.images))
    return snapshot


def current_manifest(config: Config, listener: Listener = ignore) -> Snapshot:
    """Newest manifest of these archive settings; made now if there is none."""
    snapshot = latest_manifest(workspace_of(config).folder, archive_settings(config))
    if snapshot is None:
        logger.info("no manifest of %s yet: indexing it", config.archive.url)
        snapshot = make_manifest(config, listener)
    return snapshot
