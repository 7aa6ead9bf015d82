"""Turning pictures upright by their EXIF orientation. Other metadata, such as XMP, do not count."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from PIL import Image

from padim_dist.archive.reading.formats.problems import DAMAGE

ORIENTATION = 0x0112
"""Number of the tag."""
_SIDEWAYS = (5, 6, 7, 8)


def orientation_of(exif: bytes | None) -> int:
    """Return the orientation of EXIF data, 1 (upright) if there is none or it is damaged."""
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        found = tags.get(ORIENTATION, 1)
    except DAMAGE:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def is_sideways(orientation: int) -> bool:
    """Return whether the width of an upright picture is the height in its file."""
    return orientation in _SIDEWAYS


def turned(picture: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a picture (H, W, ...) upright.

    Examples
    --------
    >>> import numpy as np
    >>> turned(np.array([[1, 2, 3]]), 6).tolist()
    [[1], [2], [3]]
    """
    if is_sideways(orientation):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return picture
