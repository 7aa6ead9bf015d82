"""One image next to its heatmap, with the boxes of its regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from padim_dist.pages.sheet import overlay

_LONGEST, _SHORTEST = 768, 384
"""Longer side of each half in pixels: images between these limits are not resized."""
_GAP = 8
_GROUND = (250, 250, 250)
_BOX = (0, 200, 255)


def side_by_side(
    pixels: npt.NDArray[np.uint8],
    heat: npt.NDArray[np.float32],
    boxes: Sequence[tuple[int, ...]],
) -> Image.Image:
    """Draw an image with its heatmap overlay to the right.

    Parameters
    ----------
    pixels : array
        uint8, shape (H, W, 3): the original.
    heat : array
        Anomaly map of the whole image as shares of the colour scale, 0 to 1, of any size; NaN where
        the model does not see the image.
    boxes : sequence of (left, top, right, bottom)
        Half-open, in pixels of the original.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    height, width = pixels.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, _SHORTEST), _LONGEST) / longest
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    original = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    shares = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
    heated = overlay(np.asarray(original), shares)
    pen = ImageDraw.Draw(heated)
    for box in boxes:
        left, top, right, bottom = (round(side * scale) for side in box)
        pen.rectangle([left - 1, top - 1, right, bottom], outline=_BOX, width=2)
    picture = Image.new("RGB", (2 * size[0] + _GAP, size[1]), _GROUND)
    picture.paste(original, (0, 0))
    picture.paste(heated, (size[0] + _GAP, 0))
    return picture
