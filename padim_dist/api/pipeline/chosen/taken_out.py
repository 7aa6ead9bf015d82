"""Images that a fit takes out of its parts again, by their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.engine.fit import EmbedJob
from padim_dist.engine.parts import Part
from padim_dist.errors import RequestError
from padim_dist.pages.words import counted, listed
from padim_dist.store.image_objects import ImageObject
from padim_dist.store.manifests import Shard, find_images
from padim_dist.store.workspace import Workspace

Found = Mapping[tuple[str, int], Mapping[str, str | None]]
"""Etags of images by id, by manifest and shard."""


def find_in_pieces(
    workspace: Workspace, pieces: Iterable[Piece], image_ids: Collection[str]
) -> dict[tuple[str, int], Mapping[str, str | None]]:
    """Return which of some images are in the shards of pieces."""
    shards = {(piece.manifest, shard.shard) for piece in pieces for shard in piece.part.shards}
    manifests = sorted({manifest for manifest, _ in shards}) if image_ids else []
    return {
        (manifest, shard): images
        for manifest in manifests
        for shard, images in find_images(workspace, manifest, image_ids).items()
        if (manifest, shard) in shards
    }


def objects_in(found: Found) -> set[ImageObject]:
    """Return the objects that were found in shards."""
    return {ImageObject(*item) for images in found.values() for item in images.items()}


def only_objects(
    found: Found, objects: Collection[ImageObject], image_ids: Collection[str] = ()
) -> dict[tuple[str, int], Mapping[str, str | None]]:
    """Return what was found of some objects, and of all that have certain image ids."""
    return {
        where: {
            image_id: etag
            for image_id, etag in images.items()
            if image_id in image_ids or ImageObject(image_id, etag) in objects
        }
        for where, images in found.items()
    }


def take_out(
    pieces: Sequence[Piece], found: Found, *, whole_parts: bool = True
) -> tuple[list[Piece], set[str]]:
    """Leave images out of pieces; return the new pieces, and the ids that were left out.

    All images of a manifest and a group are one piece to subtract. With `whole_parts`, a part
    without any other image is left out, with the shards that are subtracted from it.
    """
    subtracted = {
        (piece.manifest, part, shard.shard)
        for piece in pieces
        if not piece.images
        for part in piece.out_of
        for shard in piece.part.shards
    }
    gone: set[tuple[str, Part]] = set()
    taken: dict[tuple[str, str], tuple[list[Part], list[Shard], list[str]]] = {}
    left_out: set[str] = set()
    for piece in filter(lambda piece: piece.is_merged, pieces):
        where = (piece.manifest, piece.part)
        there = [shard for shard in piece.part.shards if (*where, shard.shard) not in subtracted]
        own = {shard: _own(piece, found.get((piece.manifest, shard.shard), {})) for shard in there}
        ids = [image_id for some in own.values() for image_id in some]
        left_out.update(ids)
        if not ids:
            continue
        images_there = len(piece.images) or sum(shard.images for shard in there)
        if whole_parts and len(ids) == images_there:
            gone.add(where)
            continue
        parts, shards, images = taken.setdefault((piece.manifest, piece.part.group), ([], [], []))
        parts.append(piece.part)
        shards += [shard for shard, some in own.items() if some]
        images += ids
    rest = [
        piece
        for piece in pieces
        if not {(piece.manifest, part) for part in (piece.out_of or (piece.part,))} & gone
    ]
    out = [
        Piece(manifest, Part(group, 0, tuple(shards)), tuple(sorted(images)), tuple(parts))
        for (manifest, group), (parts, shards, images) in taken.items()
    ]
    return [*rest, *out], left_out


def fitted_objects(pieces: Sequence[Piece], found: Found) -> set[ImageObject]:
    """Return which of the objects that were found in the shards of pieces are merged."""
    _, ids = take_out(pieces, found)
    return {one for one in objects_in(found) if one.image_id in ids}


def _own(piece: Piece, image_ids: Iterable[str]) -> list[str]:
    return [image for image in image_ids if not piece.images or image in piece.images]


def check_taken_out(jobs: Sequence[EmbedJob], pieces: Sequence[Piece]) -> None:
    """Refuse to subtract images that have changed since they were added.

    Raises
    ------
    RequestError
        Names the images, or their shard.
    """
    known = {
        (job.snapshot, job.part): job
        for job, piece in zip(jobs, pieces, strict=True)
        if piece.is_merged  # a piece that is subtracted may have the same part
    }
    for job, piece in zip(jobs, pieces, strict=True):
        if piece.is_merged:
            continue
        images = set(piece.images) or _images(job)
        merged = [known[piece.manifest, part] for part in piece.out_of]
        before = images & set().union(*(_unusable(one, images) for one in merged))
        differ = sorted(before ^ _unusable(job, images))
        if not differ:
            continue
        changed = f"{counted(len(differ), 'image')} of {len(images)} changed (gone or replaced)"
        if piece.images:
            raise RequestError(
                f"{listed(differ)} cannot be taken out of the fit: its part kept no embedding of "
                f"it (fit.sample), and after the fit {changed}. Bring the image back as it was; or "
                "remove it from the archive and run 'padim-dist index' and 'padim-dist fit'"
            )
        raise RequestError(
            f"shard {piece.part.shards[0].shard} of manifest {piece.manifest} cannot be taken out "
            f"of the fit: after the fit {changed}. Leave out the whole day or entry of the history "
            "instead (fit.without)"
        )


def gone_images(
    jobs: Sequence[EmbedJob], pieces: Sequence[Piece]
) -> dict[tuple[str, Part], set[str]]:
    """Return the ids of the images that are subtracted from parts, by manifest and part."""
    gone: dict[tuple[str, Part], set[str]] = {}
    for job, piece in zip(jobs, pieces, strict=True):
        images = set(piece.images or _images(job)) if piece.out_of else set[str]()
        for part in piece.out_of:
            gone.setdefault((piece.manifest, part), set()).update(images)
    return gone


def _images(job: EmbedJob) -> set[str]:
    return {row.image_id for source in job.sources for row in source.read()}


def _unusable(job: EmbedJob, images: set[str]) -> set[str]:
    """Return which of these images are not in a part's moments."""
    receipt = job.kept()
    # Without a receipt, no image of it could be used.
    return images & (receipt.unusable if receipt else _images(job))
