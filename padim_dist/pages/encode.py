"""Pictures as WebP of a limited size: smaller and coarser until they fit."""

from __future__ import annotations

import io

from PIL import Image

PICTURE_BYTES = 26_000
"""Most bytes of a picture."""
HEAT_BYTES = 6_000
"""Most bytes of a heatmap. A picture, its heatmap and its mask in Base64, with the text about the
image, are less than 48 kB, so a report of 200 images is less than 10 MB. A picture has fewer bytes
if there is a mask."""
MASK_BYTES = 5_000
"""Most bytes of a mask."""
HEAT_SIDE = 128
"""Longest side of a heatmap in pixels; heatmaps are smooth."""
MASK_SIDE = 224
"""Longest side of a mask in pixels."""
SMALL_BYTES = 8_000
SMALL_SIDE = 256
"""Most bytes and longest side of a small picture: of a suspect, or under a drift map."""
_SIDES = (512, 512, 448, 384, 320, 256, 192, 128, 64)
_QUALITIES = (80, 68, 60, 55, 45, 35, 25, 15, 5)
"""Longest side in pixels and WebP quality of each step; the last gives less than 5 kB for any
content."""


def encode(image: Image.Image, most: int, side: int = 512) -> bytes:
    """Return a picture as WebP, at the first step of size and quality that fits.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB or RGBA; it is never enlarged.
    most : int
        Most bytes; at least 5,000.
    side : int, optional
        Most pixels of the longest side.
    """
    data = b""
    small = image.copy()
    for longest, quality in zip(_SIDES, _QUALITIES, strict=True):
        small.thumbnail((min(side, longest),) * 2, Image.Resampling.BICUBIC, reducing_gap=2.0)
        sink = io.BytesIO()
        small.save(sink, "WEBP", quality=quality, method=2, alpha_quality=60)
        data = sink.getvalue()
        if len(data) <= most:
            break
    return data
