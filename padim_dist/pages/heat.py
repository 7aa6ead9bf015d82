"""Heatmaps in colours; all pictures use the same scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps


def heat_layer(shares: npt.NDArray[np.floating]) -> Image.Image:
    """Return a heatmap to draw over an image.

    Parameters
    ----------
    shares : array
        Shares of the colour scale, shape (H, W); clipped to 0 ... 1.

    Returns
    -------
    PIL.Image.Image
        RGBA; transparent where the share is 0.

    Examples
    --------
    >>> layer = heat_layer(np.array([[0.0, 1.0]]))
    >>> layer.mode, layer.getpixel((0, 0))[3], layer.getpixel((1, 0))[3]
    ('RGBA', 0, 215)
    """
    level = Image.fromarray((np.clip(shares, 0, 1) * 255).astype(np.uint8))
    colours = ImageOps.colorize(level, black="#2b0a57", mid="#e0442e", white="#ffe45c")
    colours.putalpha(level.point(lambda value: min(round(value * 1.1), 215)))
    return colours
