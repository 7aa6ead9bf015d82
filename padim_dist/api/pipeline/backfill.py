"""Backfill: manifests of images that the promoted model has not scored, by day or folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from padim_dist.api.pipeline.index import current_manifest, cut_rows
from padim_dist.api.pipeline.new_images import scored_images
from padim_dist.api.settings.lookup import promoted_model
from padim_dist.api.settings.moved import rows_here
from padim_dist.api.settings.places import archive_of, archive_root, archive_settings, workspace_of
from padim_dist.archive.listing.increments import not_scored
from padim_dist.archive.listing.workbench import Workbench
from padim_dist.config import SPLITS, Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.history import read_history
from padim_dist.store.manifests import Shard, read_manifest, write_manifest

_Cut = tuple[Shard, pa.Table]


def plan_backfill(
    config: Config,
    listener: Listener = ignore,
    *,
    since: date | None = None,
    until: date | None = None,
    prefix: str = "",
    piece_images: int = 100_000,
) -> list[str]:
    """Write manifests, of limited size, of the images to score.

    After some of them are scored, another call gives only the rest.

    Parameters
    ----------
    config : Config
        The configuration.
    listener : callable, optional
        Receives events.
    since, until : datetime.date, optional
        Only images of history entries from these days (UTC, both included).
    prefix : str, optional
        Only images whose path in the archive, or whose uri, has this prefix.
    piece_images : int, optional
        Approximate images in a manifest; it has whole shards.

    Returns
    -------
    list of str
        Ids of the manifests, for `score` with ``model="promoted"``.

    Raises
    ------
    RequestError
        If no model is promoted, or the history has no entry from these days.
    """
    model = promoted_model(config)
    workspace, settings = workspace_of(config), archive_settings(config)
    manifest = current_manifest(config, listener, shards=False)
    with Workbench() as bench:
        rows = rows_here(config, manifest, config.score.splits)
        came = _came(config, since, until) if since or until else None
        scored = scored_images(config, model.model_id)
        left = not_scored(bench, _with_prefix(rows, config, prefix), scored, came)
        pieces = _pieces(cut_rows(left, config), piece_images)
        settings = {**settings, "new": True}
        rest: tuple[dict[str, int], Path, str] = {}, bench.folder, archive_root(config)
        made = (write_manifest(workspace, piece, settings, *rest) for piece in pieces)
        return [manifest.snapshot for manifest in made]


def _with_prefix(rows: Iterable[pa.Table], config: Config, prefix: str) -> Iterator[pa.Table]:
    """Yield rows whose path in the archive, or whose uri, has a prefix."""
    inside = archive_of(config).at("") + prefix.lstrip("/")
    for table in rows:
        uri = table["uri"]
        yield table.filter(pc.or_(pc.starts_with(uri, inside), pc.starts_with(uri, prefix)))


def _came(config: Config, since: date | None, until: date | None) -> Iterator[pa.Table]:
    """Yield the rows of history entries from these days."""
    workspace = workspace_of(config)
    first, last = (since or date.min).isoformat(), (until or date.max).isoformat()
    history = read_history(workspace, archive_settings(config))
    entries = [entry for entry in history if first <= entry.day <= last]
    if not entries:
        raise RequestError(
            f"the history of {config.archive.url} has no entry from {first} to {last}; "
            "'padim-dist history' lists them"
        )
    for entry in entries:
        if entry.increment and (manifest := read_manifest(workspace, entry.increment)):
            yield from rows_here(config, manifest, SPLITS)


def _pieces(shards: Iterable[_Cut], images: int) -> Iterator[list[_Cut]]:
    """Yield pieces of about this many images; each numbers its shards from 0."""
    piece: list[_Cut] = []
    held = 0
    for shard, rows in shards:
        piece.append((replace(shard, shard=len(piece)), rows))
        held += len(rows)
        if held >= images:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece
