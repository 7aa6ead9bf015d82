"""Index: write a manifest of an archive, and an entry of its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from padim_dist.api.pipeline.whole import make_whole
from padim_dist.api.settings.lookup import find_manifest
from padim_dist.api.settings.moved import moved_hint, rows_here
from padim_dist.api.settings.places import (
    ConfigLike,
    archive_of,
    archive_root,
    archive_settings,
    as_config,
    logger,
    workspace_in_archive,
    workspace_of,
)
from padim_dist.archive.films.opening import film_reader
from padim_dist.archive.listing.cut import cut, shard_size
from padim_dist.archive.listing.increments import NUMBERED_SCHEMA, compare, delta
from padim_dist.archive.listing.layouts import find_layout
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.listing.workbench import SortedRows
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.config import SPLITS, Config
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.history import Entry, add_entry, last_entry, put_changes
from padim_dist.store.manifests import (
    Draft,
    Shard,
    Snapshot,
    draft_manifest,
    images_by_group,
    put_delta,
    put_receipt,
    put_whole,
    read_manifest,
    write_manifest,
)

_CHANGES = ("new", "changed", "gone")


@dataclass(frozen=True)
class IndexResult:
    """Contents of an archive.

    Attributes
    ----------
    snapshot : str
        Content address of the manifest.
    images, shards, without_group : int
        Images of the manifest, its shards, and images whose path does not match ``archive.group``.
    groups, ignored : mapping
        Images by group and split; files that are not indexed, by suffix or reason.
    number : int
        Number of the newest entry of the archive's history; see `history`.
    new, changed, gone : int
        Images since the previous index; all 0 if there is no change.
    """

    snapshot: str
    images: int
    shards: int
    groups: dict[str, dict[str, int]]
    without_group: int
    ignored: dict[str, int]
    number: int
    new: int
    changed: int
    gone: int


def index(config: ConfigLike, listener: Listener = ignore) -> IndexResult:
    """List the archive and write a manifest of it.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.

    Raises
    ------
    ArchiveError
        If there is no such archive, or no image in it.
    """
    config = as_config(config)
    snapshot, entry, is_new = make_manifest(config, listener)
    groups = images_by_group(snapshot.shards).items()
    return IndexResult(
        snapshot=snapshot.snapshot,
        images=snapshot.images,
        shards=len(snapshot.shards),
        groups={group: {split: counts[split] for split in SPLITS} for group, counts in groups},
        without_group=sum(shard.images for shard in snapshot.shards if shard.group is None),
        ignored=dict(Counter(snapshot.ignored).most_common()),
        number=entry.number,
        **{name: getattr(entry, name) if is_new else 0 for name in _CHANGES},
    )


@contextmanager
def list_archive(
    config: Config, listener: Listener = ignore, before: Snapshot | None = None
) -> Iterator[Spool]:
    """List the archive; yield a spool with its rows and its counts of other files.

    Films that are as they were in the manifest `before`, which has the same settings, are not read.
    """
    archive = config.archive

    def tell(listed: int) -> None:
        listener(Progress("index", 0, listed))

    tell(0)
    with Spool() as spool:
        kept = None
        if before:
            kept = spool.keep("before", rows_here(config, before, SPLITS), ROWS_SCHEMA)
        listing = Listing(
            archive=archive_of(config),
            train=archive.train,
            group=archive.group,
            tell=tell,
            exclude=archive.exclude,
            allow=archive.allow,
            workspace=workspace_in_archive(config),
            every=archive.every,
            before=kept,
        )
        find_layout(archive.layout)(listing, spool)
        yield spool


def _films_before(config: Config, reader: str | None) -> Snapshot | None:
    """Return the newest manifest of an archive of films, if the same reader has read them."""
    workspace = workspace_of(config)
    last = last_entry(workspace, archive_settings(config)) if reader else None
    earlier = read_manifest(workspace, last.snapshot) if last else None
    return earlier if earlier and earlier.reader == reader else None


def cut_rows(rows: SortedRows, config: Config) -> Iterator[tuple[Shard, pa.Table]]:
    """Cut sorted rows into shards; yield each shard and its rows."""
    size = config.archive.shard_images
    images = shard_size(rows.images) if size == "auto" else size
    for made in cut(rows.tables(), rows.totals, images):
        fields = (made.shard, made.group, made.split, made.images, made.bytes, made.digest)
        yield Shard(*fields), made.rows


def make_manifest(config: Config, listener: Listener = ignore) -> tuple[Snapshot, Entry, bool]:
    """Write a manifest of the archive and an entry of its history.

    It returns the manifest, the newest entry, and whether the entry was made now: not if the
    archive has not changed.
    """
    workspace, settings = workspace_of(config), archive_settings(config)
    reader = film_reader() if config.archive.layout == "video" else None
    with list_archive(config, listener, _films_before(config, reader)) as spool:
        rows = spool.sorted()
        shards = cut_rows(rows, config)
        root = archive_root(config)
        draft = draft_manifest(shards, settings, spool.ignored, spool.folder, root, reader)
        if last_entry(workspace, settings) is None and (hint := moved_hint(config)):
            logger.warning(hint)
        while True:
            last = last_entry(workspace, settings)
            earlier = read_manifest(workspace, last.snapshot) if last else None
            if last and last.snapshot == draft.manifest.snapshot:
                # Its folder may have been removed, so that it is written again.
                snapshot = earlier or put_whole(workspace, draft)
                if snapshot.reader != reader:
                    snapshot = put_receipt(workspace, replace(snapshot, reader=reader))
                entry, is_new = last, False
                break
            snapshot, entry = _add(config, spool, draft, last, earlier)
            if is_new := add_entry(workspace, settings, entry):
                break  # else another process has added an entry: look again
    listener(Progress("index", snapshot.images, snapshot.images))
    return snapshot, entry, is_new


def _add(
    config: Config, spool: Spool, draft: Draft, last: Entry | None, earlier: Snapshot | None
) -> tuple[Snapshot, Entry]:
    """Write a manifest, and that of the new and changed images; return it and its entry."""
    workspace, settings = workspace_of(config), archive_settings(config)
    now, whole = datetime.now(UTC).isoformat(), draft.manifest.snapshot
    increment: str | None = whole
    counts: Mapping[str, int] = {"new": draft.manifest.images}
    changes = None
    if last is None or earlier is None:  # the first, or the manifest before was removed
        snapshot = put_whole(workspace, draft)
    else:
        before = spool.keep("earlier", rows_here(config, earlier, SPLITS), NUMBERED_SCHEMA)
        found = compare(spool, spool.joined(), before)
        increment, counts = None, found.counts
        if earlier.below == draft.manifest.below:
            changed = delta(spool, spool.joined(), before)
            snapshot = put_delta(workspace, draft, earlier, changed)
        else:  # it has moved: all addresses are others
            snapshot = put_whole(workspace, draft)
        if found.rows.images == draft.manifest.images:
            increment = whole
        elif found.rows.images:
            shards = cut_rows(found.rows, config)
            root, drafts = archive_root(config), spool.folder
            increment = write_manifest(workspace, shards, settings, {}, drafts, root).snapshot
        table = found.changes.read_bytes()
        changes = put_changes(workspace, settings, last.snapshot, whole, table)
    entry = Entry(
        number=last.number + 1 if last else 1,
        snapshot=whole,
        increment=increment,
        images=snapshot.images,
        **{name: counts.get(name, 0) for name in _CHANGES},
        changes=changes,
        indexed_at=now,
    )
    return snapshot, entry


def current_manifest(
    config: Config, listener: Listener = ignore, asked: str | None = None, *, shards: bool = True
) -> Snapshot:
    """Return the manifest with an id, or the newest of the archive; index it if there is none.

    `shards` says whether they are read: a manifest that was written as changes is then made whole.

    Raises
    ------
    RequestError
        If there is no manifest with this id.
    """
    if (snapshot := find_manifest(config, asked)) is None:
        logger.info("no manifest of %s yet: indexing it", config.archive.url)
        snapshot, _, _ = make_manifest(config, listener)
    return make_whole(config, snapshot) if shards else snapshot
