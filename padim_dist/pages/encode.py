"""Pictures as bytes of at most a given number: smaller and coarser until they fit."""

from __future__ import annotations

import io

from PIL import Image

PICTURE_BYTES = 30_000
"""Of one picture."""
HEAT_BYTES = 6_000
"""Of the heat over it. Both in Base64, with all that is said of an anomaly, are less than
50 kB: 200 anomalies are less than 10 MB, whatever they show."""
HEAT_SIDE = 128
"""Pixels of the heat's longest side: it is smooth."""
_STEPS = (
    (512, 80),
    (512, 68),
    (448, 60),
    (384, 55),
    (320, 45),
    (256, 35),
    (192, 25),
    (128, 15),
    (64, 5),
)
"""(longest side in pixels, WebP quality). The last is less than 5 kB of any content."""


def encode(image: Image.Image, most: int, side: int = 512) -> bytes:
    """A picture as WebP: at the first step of size and quality that fits.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB or RGBA; it is only ever made smaller.
    most : int
        Bytes that are allowed; at least 5,000.
    side : int, optional
        Pixels of the longest side, at most.
    """
    data = b""
    small = image.copy()
    for longest, quality in _STEPS:
        small.thumbnail((min(side, longest),) * 2, Image.Resampling.BICUBIC, reducing_gap=2.0)
        sink = io.BytesIO()
        small.save(sink, "WEBP", quality=quality, method=2, alpha_quality=60)
        data = sink.getvalue()
        if len(data) <= most:
            break
    return data
