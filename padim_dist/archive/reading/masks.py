"""Ground-truth masks, and whether they go with their images."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from padim_dist.archive.films.names import frame_time
from padim_dist.archive.reading.formats.heads import Picture, head_of
from padim_dist.archive.reading.formats.problems import DAMAGE
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.errors import ImageError

NOT_READ = "cannot be read"
SHAPE = "do not have the shape of their image"
EMPTY = "are empty, though their image is labelled as defective"
INVERTED = "cover more than half of their image, as if inverted"
ALPHA = "have their content in the alpha channel, which is not read"
TURNED = "have another EXIF orientation than their image, and may be turned otherwise"

_HEAD = 2**16
"""Bytes of an image that have its size and orientation."""


@dataclass(frozen=True)
class CheckedMask:
    """A mask, and what is doubtful about it.

    Attributes
    ----------
    uri : str
        Its address.
    pixels : Tensor or None
        bool, (height, width), at its own size; None if it cannot be read.
    fault, detail : str or None, str
        One of the constants of this module, or None; its sizes or the reason.
    """

    uri: str
    pixels: Tensor | None
    fault: str | None = None
    detail: str = ""


def check_mask(reader: ImageReader, row: ImageRow) -> CheckedMask:
    """Read the mask of an image and compare it with the head of its image.

    Raises
    ------
    RunError
        If the store keeps failing.
    """
    uri = row.mask_uri
    assert uri is not None
    try:
        data, pixels = reader.read_mask(uri)
    except ImageError as error:
        return CheckedMask(uri, None, NOT_READ, error.reason)
    only_alpha = _has_only_alpha(data, pixels)
    height, width = pixels.shape
    mask = Picture(width, height, _orientation(data, reader))
    fault, detail = find_fault(mask, read_head(reader, row), pixels, only_alpha)
    may_follow = frame_time(row) is None and row.length > _HEAD  # EXIF data after the pixels
    if fault in (SHAPE, TURNED) and may_follow:
        image = read_head(reader, row, row.length)
        fault, detail = find_fault(mask, image, pixels, only_alpha)
    return CheckedMask(uri, pixels, fault, detail)


def find_fault(
    mask: Picture, image: Picture | None, pixels: Tensor, only_alpha: bool
) -> tuple[str | None, str]:
    """Return what is doubtful about a mask, and its details.

    Parameters
    ----------
    mask, image : Picture
        The mask; its image, None if its head cannot be read.
    pixels : Tensor
        bool, (height, width): the mask as it is read.
    only_alpha : bool
        Whether its colour is the same everywhere and its alpha is not.
    """
    if image and not same_shape(mask, image):
        return SHAPE, f"{mask}, its image {image}"
    if only_alpha:
        return ALPHA, ""
    share = float(pixels.float().mean())
    if share == 0:
        return EMPTY, ""
    if share > 0.5:
        return INVERTED, f"{100 * share:.0f} %"
    if image and mask.orientation != image.orientation:
        sideways = mask.is_sideways or image.is_sideways
        if not sideways or image.width == image.height:  # otherwise the shapes would differ
            return TURNED, f"{mask.orientation}, its image {image.orientation}"
    return None, ""


def same_shape(mask: Picture, image: Picture) -> bool:
    """Return whether two sizes are equal, or one is a multiple of the other."""
    for large, small in ((image, mask), (mask, image)):
        times = max(1, round(large.width / small.width))
        pairs = ((large.width, small.width), (large.height, small.height))
        if all(abs(many - times * few) < times for many, few in pairs):
            return True
    return False


def _has_only_alpha(data: bytes, pixels: Tensor) -> bool:
    if not bool(pixels.all()) and bool(pixels.any()):
        return False
    with suppress(*DAMAGE), Image.open(io.BytesIO(data)) as image:
        low, high = image.convert("RGBA").getchannel("A").getextrema()
        return bool(low != high)
    return False


def _orientation(data: bytes, reader: ImageReader) -> int:
    try:
        return head_of(data, reader.max_pixels).orientation
    except ImageError:
        return 1


def read_head(reader: ImageReader, row: ImageRow, most: int = _HEAD) -> Picture | None:
    """Return the size and orientation of an image; None if its first bytes do not have them."""
    try:
        if frame_time(row) is not None:  # a decoder turns it upright
            height, width = reader.load_original(row).shape[1:]
            return Picture(width, height)
        return head_of(reader.fetch_head(row, most), reader.max_pixels)
    except ImageError:
        return None
