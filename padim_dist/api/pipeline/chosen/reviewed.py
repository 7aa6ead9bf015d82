"""Reviewed images in a fit: confirmed normals join, confirmed defects leave."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from padim_dist.api.pipeline.chosen.taken_out import find_in_pieces, objects_in
from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.engine.parts import Part
from padim_dist.pages.words import counted
from padim_dist.store.image_objects import ImageObject, ids_of
from padim_dist.store.manifests import Shard, Snapshot, find_images
from padim_dist.store.reviews import DEFECT, OK, newest_verdicts
from padim_dist.store.workspace import Workspace


def apply_reviews(
    workspace: Workspace, snapshot: Snapshot, pieces: Sequence[Piece]
) -> tuple[list[Piece], frozenset[ImageObject], list[str]]:
    """Return what the newest reviews change in a fit.

    A review counts only for the object that was reviewed: an image that was replaced since stays
    where it is.

    Parameters
    ----------
    snapshot : Snapshot
        The manifest of the whole archive: confirmed normals are looked for in it.
    pieces : sequence of Piece
        What the fit merges without reviews.

    Returns
    -------
    joined : list of Piece
        Images to merge as well: one piece for each group.
    defects : frozenset of ImageObject
        Images of the fit that are defects.
    notes : list of str
        What has changed, for people.
    """
    verdicts = newest_verdicts(workspace)
    fitted = objects_in(find_in_pieces(workspace, pieces, ids_of(verdicts)))
    bad = {one for one, said in verdicts.items() if said.verdict == DEFECT}
    defects = frozenset(fitted & bad)
    known = ids_of(fitted)
    ok = {one for one, said in verdicts.items() if said.verdict == OK and one.image_id not in known}
    joined = _join(workspace, snapshot, ok, pieces)
    new, notes = sum(len(piece.images) for piece in joined), []
    if new or defects:
        notes.append(
            f"reviews: {counted(new, 'confirmed normal image')} joined the fit, "
            f"{counted(len(defects), 'confirmed defect')} left it (fit.reviewed)"
        )
    return joined, defects, notes


def _join(
    workspace: Workspace, snapshot: Snapshot, ok: Collection[ImageObject], pieces: Sequence[Piece]
) -> list[Piece]:
    """Return the pieces of confirmed normal images of a manifest, one for each group."""
    if not ok:
        return []
    groups: dict[str, tuple[list[Shard], list[str]]] = {}
    found = find_images(workspace, snapshot.snapshot, ids_of(ok))
    for shard in snapshot.shards:
        there = found.get(shard.shard, {})
        images = [image for image, etag in there.items() if ImageObject(image, etag) in ok]
        if shard.group is not None and shard.split != "train" and images:
            shards, ids = groups.setdefault(shard.group, ([], []))
            shards.append(shard)
            ids += images
    return [
        Piece(
            snapshot.snapshot,
            # After the group's other parts: the number is only its name.
            Part(group, sum(piece.part.group == group for piece in pieces), tuple(shards)),
            images=tuple(sorted(ids)),
        )
        for group, (shards, ids) in groups.items()
    ]
