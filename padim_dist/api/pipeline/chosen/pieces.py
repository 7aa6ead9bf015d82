"""Pieces of a fit: parts of the manifest or of a window, and what is taken out and in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from padim_dist.api.pipeline.chosen.forgotten import find_forgotten, forgotten_notes
from padim_dist.api.pipeline.chosen.reviewed import apply_reviews
from padim_dist.api.pipeline.chosen.taken_out import (
    find_in_pieces,
    fitted_objects,
    only_objects,
    take_out,
)
from padim_dist.api.pipeline.chosen.window import Piece, choose_pieces
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config
from padim_dist.engine.parts import deal_parts
from padim_dist.errors import ArchiveError, RequestError
from padim_dist.pages.words import counted, listed
from padim_dist.store.history import Entry, read_history
from padim_dist.store.image_objects import ImageObject, ids_of
from padim_dist.store.manifests import Shard, Snapshot, images_by_group, read_manifest


def take_out_and_in(
    config: Config, snapshot: Snapshot, pieces: list[Piece]
) -> tuple[list[Piece], list[str]]:
    """Leave images out and take others in; return new pieces and notes for people.

    Raises
    ------
    RequestError
        If no piece has an image that ``fit.without`` names.
    """
    wanted, workspace = set(config.fit.without_images), workspace_of(config)
    forgotten = find_forgotten(config)
    pieces, defects, notes = _with_reviewed(config, snapshot, pieces)
    objects = forgotten | defects
    found = find_in_pieces(workspace, pieces, wanted | ids_of(objects))
    fitted = fitted_objects(pieces, found)
    pieces, left_out = take_out(pieces, only_objects(found, objects, wanted))
    notes += forgotten_notes(
        forgotten, fitted, {one for one in fitted - objects if one.image_id not in wanted}
    )
    if unknown := wanted - left_out:
        raise RequestError(
            f"fit.without names {listed(sorted(unknown))}, but no normal image of the fit has such "
            "an id. 'padim-dist suspects' and the view normals have the ids of all"
        )
    return pieces, notes


def find_normal(config: Config, snapshot: Snapshot, image_ids: Collection[str]) -> set[ImageObject]:
    """Return which of some images are normal images that a fit of a configuration would use.

    These are also images that join by their review; and those that are forgotten, or defects.
    """
    pieces, _, _ = _with_reviewed(config, snapshot, pieces_of(config, snapshot))
    return fitted_objects(pieces, find_in_pieces(workspace_of(config), pieces, image_ids))


def _with_reviewed(
    config: Config, snapshot: Snapshot, pieces: list[Piece]
) -> tuple[list[Piece], frozenset[ImageObject], list[str]]:
    """Return pieces with those that join by their reviews, the defects among all, and notes."""
    if not config.fit.reviewed:
        return pieces, frozenset(), []
    joined, defects, notes = apply_reviews(workspace_of(config), snapshot, pieces)
    return [*pieces, *joined], defects, notes


def pieces_of(config: Config, snapshot: Snapshot) -> list[Piece]:
    """Return the parts of the manifest, or of the window's increments."""
    if config.fit.window is None:
        parts = deal_parts(snapshot.shards, config.fit.parts)
        return [Piece(snapshot.snapshot, part) for part in parts]
    workspace = workspace_of(config)
    increments: dict[Entry, list[Shard]] = {}
    for entry in read_history(workspace, archive_settings(config))[-config.fit.window :]:
        if entry.increment is not None:
            if (came := read_manifest(workspace, entry.increment)) is None:
                raise RequestError(
                    f"manifest {workspace.at(workspace.manifest(entry.increment))} of entry "
                    f"{entry.number} of the history is gone; restore it, or lower fit.window"
                )
            increments[entry] = came.shards
    return choose_pieces(increments, config.fit.without_parts, config.fit.parts)


def check_groups(snapshot: Snapshot, pieces: Sequence[Piece], config: Config) -> list[str]:
    """Refuse a fit without images; return a warning about groups that get no model."""
    images = images_by_group(snapshot.shards)
    fit, archive = config.fit, config.archive
    if not images:
        raise ArchiveError(
            f"none of {counted(snapshot.images, 'image')} matches archive.group "
            f"{archive.group!r}; it is searched in the path inside the archive"
        )
    fitted = {piece.part.group for piece in pieces}
    without = [group for group in images if group not in fitted]
    if not without:
        return []
    what = "train/good" if archive.layout == "mvtec" else f"archive.train {archive.train!r}"
    where = f" in the last {fit.window} entries of the history" if fit.window else ""
    found = (
        f"no normal image{where} in {len(without)} of {counted(len(images), 'group')} "
        f"({listed(map(repr, without))}): a group needs images that match {what}"
    )
    if not fitted:
        raise ArchiveError(found)
    return [f"{found}. They are left out of the model"]
