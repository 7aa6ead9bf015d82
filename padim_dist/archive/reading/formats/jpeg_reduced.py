"""JPEG files decoded at a half, a quarter or an eighth of their size: `model.jpeg: reduced`.

libjpeg computes fewer pixels from each block, which is a good low-pass filter, so the picture is
not decoded at a size that the resize then throws away. The grey levels are not the same as
those of a whole picture that is resized: it is part of a model.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from padim_dist.archive.reading.formats.jpeg_head import JpegHead
from padim_dist.archive.reading.formats.problems import DAMAGE
from padim_dist.archive.reading.formats.upright import is_sideways, orientation_of, turned
from padim_dist.core.geometry import Grid

_SCALES = (8, 4, 2)


def read_reduced(data: bytes, head: JpegHead, least: Grid) -> Tensor | None:
    """Decode an ordinary file to RGB, upright, with as few pixels as are needed.

    Parameters
    ----------
    data, head : bytes, JpegHead
        The file and its head.
    least : (int, int)
        Height and width that the picture has at least.

    Returns
    -------
    Tensor or None
        uint8, shape (3, H, W). None if no reduced size fits, and of damaged files, whose faults are
        found when they are decoded whole.
    """
    orientation = orientation_of(head.exif)
    height, width = reversed(least) if is_sideways(orientation) else least
    scale = _scale(head, height, width)
    if scale is None:
        return None
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        image.draft("RGB", (head.width // scale, head.height // scale))
        rgb = np.array(image.convert("RGB"))
    except DAMAGE:
        return None
    upright = np.ascontiguousarray(turned(rgb, orientation))
    return torch.from_numpy(upright).permute(2, 0, 1)


def _scale(head: JpegHead, height: int, width: int) -> int | None:
    """Return the largest scale that leaves so many pixels; None if there is none.

    It divides both sides: otherwise the last pixels would stand for less than the others, and the
    resize would shift the picture.
    """
    for scale in _SCALES:
        is_exact = head.height % scale == 0 and head.width % scale == 0
        if is_exact and head.height >= scale * height and head.width >= scale * width:
            return scale
    return None
