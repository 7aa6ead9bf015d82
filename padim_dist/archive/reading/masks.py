"""Ground-truth masks, and whether they go with their images."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from padim_dist.archive.reading.formats.problems import DAMAGE
from padim_dist.archive.reading.formats.upright import ORIENTATION, orientation_of
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.errors import ImageError

UNREADABLE = "cannot be read"
SHAPE = "do not have the shape of their image"
EMPTY = "are empty, though their image is labelled as defective"
INVERTED = "cover more than half of their image, as if inverted"
ALPHA = "have their content in the alpha channel, which is not read"
TURNED = "have another EXIF orientation than their image, and may be turned otherwise"

_HEAD = 2**16
"""Bytes of an image that have its size and orientation."""
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Picture:
    """Size of a picture as it is shown, and its EXIF orientation (1: none)."""

    width: int
    height: int
    orientation: int = 1

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


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
        return CheckedMask(uri, None, UNREADABLE, error.reason)
    mask, only_alpha = _look(data, pixels)
    return CheckedMask(uri, pixels, *find_fault(mask, _head(reader, row), pixels, only_alpha))


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
    if image and not _same_shape(mask, image):
        return SHAPE, f"{mask}, its image {image}"
    if only_alpha:
        return ALPHA, ""
    share = float(pixels.float().mean())
    if share == 0:
        return EMPTY, ""
    if share > 0.5:
        return INVERTED, f"{100 * share:.0f} %"
    if image and mask.orientation != image.orientation:
        sideways = any(one.orientation in _SIDEWAYS for one in (mask, image))
        if not sideways or image.width == image.height:  # otherwise the shapes would differ
            return TURNED, f"{mask.orientation}, its image {image.orientation}"
    return None, ""


def _same_shape(mask: Picture, image: Picture) -> bool:
    """Return whether two sizes are equal, or one is a multiple of the other."""
    for large, small in ((image, mask), (mask, image)):
        times = max(1, round(large.width / small.width))
        pairs = ((large.width, small.width), (large.height, small.height))
        if all(abs(many - times * few) < times for many, few in pairs):
            return True
    return False


def _look(data: bytes, pixels: Tensor) -> tuple[Picture, bool]:
    height, width = pixels.shape
    orientation, only_alpha = 1, False
    with suppress(*DAMAGE), Image.open(io.BytesIO(data)) as image:
        orientation = _orientation(image)
        if bool(pixels.all()) or not bool(pixels.any()):
            low, high = image.convert("RGBA").getchannel("A").getextrema()
            only_alpha = low != high
    return Picture(width, height, orientation), only_alpha


def _head(reader: ImageReader, row: ImageRow) -> Picture | None:
    """Return the size and orientation of an image; None if its head does not have them."""
    try:
        data = reader.fetch_head(row, _HEAD)
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            orientation = _orientation(image)
    except (ImageError, *DAMAGE):
        return None
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Picture(width, height, orientation)


def _orientation(image: Image.Image) -> int:
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2.get(ORIENTATION, 1))
    return orientation_of(image.info.get("exif"))
