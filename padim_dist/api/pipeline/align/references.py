"""The references of a fit: a picture that is named, or the median of each group's images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from padim_dist.api.pipeline.align.shapes import check_shape, first_images
from padim_dist.api.pipeline.chosen.sampled import refuse_lost, sample_rows, sample_settings
from padim_dist.api.pipeline.chosen.window import Piece
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.decode import decode
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.transform import prepare
from padim_dist.archive.rows import ImageRow
from padim_dist.config import AlignConfig, Config
from padim_dist.core.align.median import median_reference
from padim_dist.core.align.reference import Reference, grey, grid_of
from padim_dist.errors import ConfigError, ImageError
from padim_dist.events import Listener, Progress
from padim_dist.pages.words import listed
from padim_dist.redaction import redacted
from padim_dist.storage import Folder
from padim_dist.store.pictures.references import (
    GroupReference,
    find_group_references,
    keep_reference,
    kept_reference,
    kept_references,
    put_group_reference,
)
from padim_dist.store.workspace import content_id

MEDIAN = "median"
_SAMPLE = 32
"""Normal images of a group whose median is its reference."""


def find_references(
    config: Config,
    pieces: Sequence[Piece],
    readings: Mapping[str, Reading],
    listener: Listener,
) -> dict[str, Reference]:
    """Return the reference of each group of a fit, which the workspace then has.

    The median of a group is found once for an archive and its settings: later fits use the same
    one, whatever images have come since.

    Parameters
    ----------
    config, pieces : Config, sequence of Piece
        The configuration, and the images of the fit.
    readings : mapping of str to Reading
        How images are read, by manifest.
    listener : callable
        Receives events.

    Returns
    -------
    dict of str to Reference
        By group; without groups none of whose images could be read.

    Raises
    ------
    ConfigError
        If the picture that ``model.align.to`` names cannot be used, or has the shape of none of the
        groups.
    DamagedFileError
        If a reference that the workspace has is damaged.
    RunError
        If the store keeps failing, or images that a median needs cannot be read now.
    """
    align, workspace = config.model.align, workspace_of(config)
    if align is None:
        return {}
    groups = sorted({piece.part.group for piece in pieces if piece.is_merged})
    if align.to != MEDIAN:
        reference = read_picture(config, align)
        heads = first_images(workspace, pieces, readings)
        if warning := check_shape(reference, align.to, heads):
            logger.warning(warning)
        keep_reference(workspace, reference)
        return dict.fromkeys(groups, reference)
    images = median_id(config)
    kept = find_group_references(workspace, images, groups)
    by_digest = kept_references(workspace, {one.digest for one in kept.values()})
    found = {group: by_digest[one.digest] for group, one in kept.items()}
    for done, group in enumerate(groups):
        listener(Progress("fit: references", len(groups), done))
        if group in found or (made := _make_median(config, align, group, pieces, readings)) is None:
            continue
        reference, count = made
        now = datetime.now(UTC).isoformat()
        own = GroupReference(keep_reference(workspace, reference), count, now)
        agreed = put_group_reference(workspace, images, group, own)
        is_own = agreed.digest == own.digest  # or another fit was faster
        found[group] = reference if is_own else kept_reference(workspace, agreed.digest)
    listener(Progress("fit: references", len(groups), len(groups)))
    if lost := [group for group in groups if group not in found]:
        logger.warning(
            "images of %s are not aligned: none of the normal images that were tried can be read",
            listed(map(repr, lost)),
        )
    return found


def median_id(config: Config) -> str:
    """Return the id of the archive that medians are made of, and of the way they are made."""
    return content_id(sample_settings(config))


def read_picture(config: Config, align: AlignConfig) -> Reference:
    """Return the picture that ``model.align.to`` names, as the reference of all groups.

    Raises
    ------
    ConfigError
        If it cannot be read, or is no picture.
    """
    folder, _, name = align.to.rpartition("/")
    shown = redacted(align.to)
    try:
        data = Folder(folder or ".", config.storage_options).read(name)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"model.align.to {shown!r} is neither 'median' nor a picture that can be read: "
            f"{redacted(str(error))}"
        ) from error
    try:
        pixels = decode(data, config.archive.max_pixels, config.archive.bits)
    except ImageError as error:
        raise ConfigError(
            f"model.align.to {shown!r} cannot be the reference: {error.reason}. Name a picture of "
            "the camera, or set it to 'median'"
        ) from error
    whole = config.model.geometry.whole
    levels = grey(prepare(pixels, whole), grid_of(whole.resize))
    return Reference.of(levels.numpy(), (pixels.shape[1], pixels.shape[2]))


def _make_median(
    config: Config,
    align: AlignConfig,
    group: str,
    pieces: Sequence[Piece],
    readings: Mapping[str, Reading],
) -> tuple[Reference, int] | None:
    """Return the median of some normal images of a group, and their number; None without any.

    It is kept for good: so images that may be readable later are not left out of it.

    Raises
    ------
    RunError
        If such images cannot be read now, or the store keeps failing.
    """
    resize, pictures, tried = config.model.resize, [], list[LoadedImage]()
    own = [piece for piece in pieces if piece.part.group == group]
    chosen: dict[str, list[ImageRow]] = {}
    for one in sample_rows(config, own, readings, _SAMPLE):
        chosen.setdefault(one.piece.manifest, []).append(one.row)
    for manifest, rows in chosen.items():
        reading = readings[manifest]
        # The crop hides nothing from the median.
        whole = replace(reading.reader, geometry=reading.reader.geometry.whole)
        for image in read_ahead(rows, replace(reading, reader=whole), reading.requests):
            if image.pixels is not None and image.height and image.width:
                levels = grey(image.pixels, grid_of(resize))
                pictures.append((levels, (image.height, image.width)))
            tried.append(replace(image, pixels=None))
    refuse_lost(tried, f"the median of group {group!r}")
    if not pictures:
        return None
    return median_reference(pictures, resize, align.shift, align.rotate), len(pictures)
