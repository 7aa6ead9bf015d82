"""Reviewed images in a fit: confirmed normals join, confirmed defects leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from padim_dist.api.pipeline.taken_out import find_in_pieces
from padim_dist.api.pipeline.window import Piece
from padim_dist.engine.parts import Part
from padim_dist.pages.words import counted
from padim_dist.store.manifests import Shard, Snapshot, find_images
from padim_dist.store.reviews import DEFECT, OK, Verdict, newest_verdicts
from padim_dist.store.workspace import Workspace


def apply_reviews(
    workspace: Workspace, snapshot: Snapshot, pieces: Sequence[Piece]
) -> tuple[list[Piece], frozenset[str], list[str]]:
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
    defects : frozenset of str
        Ids of images of the fit that are defects.
    notes : list of str
        What has changed, for people.
    """
    verdicts = newest_verdicts(workspace)
    ok = {name: one for name, one in verdicts.items() if one.verdict == OK}
    bad = {name: one for name, one in verdicts.items() if one.verdict == DEFECT}
    fitted = find_in_pieces(workspace, pieces, verdicts)
    defects = frozenset(image for images in fitted.values() for image in _about(images, bad))
    known = {image for images in fitted.values() for image in images}
    joined = _join(workspace, snapshot, {n: one for n, one in ok.items() if n not in known}, pieces)
    new, notes = sum(len(piece.images) for piece in joined), []
    if new or defects:
        notes.append(
            f"reviews: {counted(new, 'confirmed normal image')} joined the fit, "
            f"{counted(len(defects), 'confirmed defect')} left it (fit.reviewed)"
        )
    return joined, defects, notes


def _join(
    workspace: Workspace, snapshot: Snapshot, ok: dict[str, Verdict], pieces: Sequence[Piece]
) -> list[Piece]:
    """Return the pieces of confirmed normal images of a manifest, one for each group."""
    if not ok:
        return []
    groups: dict[str, tuple[list[Shard], list[str]]] = {}
    found = find_images(workspace, snapshot.snapshot, ok)
    for shard in snapshot.shards:
        images = _about(found.get(shard.shard, {}), ok)
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


def _about(images: Mapping[str, str | None], verdicts: Mapping[str, Verdict]) -> list[str]:
    """Return the images whose review is about the object that has their etag."""
    return [
        image
        for image, etag in images.items()
        if image in verdicts and verdicts[image].is_about(etag)
    ]
