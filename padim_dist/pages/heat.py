"""Heatmaps and masks in colours; all pictures use the same scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

_MASK = (0, 200, 255)
_MASK_ALPHA = 130
_LEAST = 1e-6
_NOT_JUDGED = (128, 128, 128, 190)
"""Colour of what is not judged: grey, through which the image can still be seen."""
_ALPHA, _BEND = 215, 0.8
"""Opacity of the hottest colour; exponent of the share that gives the others'."""


@dataclass(frozen=True)
class HeatScale:
    """Colour scale of a group: in all its images the same distance has the same colour.

    The colours are logarithmic between the three distances. So a strong anomaly, which may be many
    times the threshold, does not make the others pale.

    Attributes
    ----------
    start : float
        Distances up to this one, usual in normal images, are transparent.
    middle : float
        Distance of the middle colour: the group's threshold, where it is known.
    top : float
        Distance from which on the colour is the hottest.
    is_threshold : bool
        Whether the middle is the threshold; else it is a high score of the group.

    Examples
    --------
    >>> HeatScale(5.0, 20.0, 80.0).shares(np.array([4.0, 10.0, 20.0, 40.0, 90.0])).round(3)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """

    start: float
    middle: float
    top: float
    is_threshold: bool = True

    @classmethod
    def of(cls, usual: float, threshold: float | None, high: float, highest: float) -> HeatScale:
        """Return the scale of a group.

        Parameters
        ----------
        usual : float
            A high distance in the images with the lowest scores.
        threshold : float or None
            The lowest flagged score; `high`, a high score, stands for it where it is not known.
        highest : float
            The highest score.
        """
        # Normal images that are all the same have the threshold 0.
        middle = max(high if threshold is None else threshold, _LEAST)
        if threshold is None:
            middle = max(middle, 2 * usual)
        # Where most images are anomalous, the lowest scores are above the threshold.
        start = min(usual, middle / 2)
        return cls(start, middle, max(highest, 2 * middle), threshold is not None)

    def shares(self, distances: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the shares of the scale, 0 to 1, of distances; NaN where they are NaN."""
        start = max(self.start, 1e-3 * self.middle)
        known = np.asarray(distances, np.float64).clip(start)
        low = 0.5 * np.log(known / start) / np.log(self.middle / start)
        high = 0.5 + 0.5 * np.log(known / self.middle) / np.log(self.top / self.middle)
        shares: npt.NDArray[np.float32] = np.where(known < self.middle, low, high).clip(0, 1)
        return shares.astype(np.float32)


def heat_layer(shares: npt.NDArray[np.floating]) -> Image.Image:
    """Return a heatmap to draw over an image.

    Parameters
    ----------
    shares : array
        Shares of the colour scale, shape (H, W); clipped to 0 ... 1. NaN where nothing is judged.

    Returns
    -------
    PIL.Image.Image
        RGBA; transparent where the share is 0, grey where it is NaN.

    Examples
    --------
    >>> layer = heat_layer(np.array([[0.0, 1.0]]))
    >>> layer.mode, layer.getpixel((0, 0))[3], layer.getpixel((1, 0))[3]
    ('RGBA', 0, 215)
    """
    judged = ~np.isnan(shares)
    levels = (np.clip(np.where(judged, shares, 0), 0, 1) * 255).astype(np.uint8)
    level = Image.fromarray(levels)
    colours = ImageOps.colorize(level, black="#2b0a57", mid="#e0442e", white="#ffe45c")
    colours.putalpha(level.point(lambda value: round(_ALPHA * (value / 255) ** _BEND)))
    if not judged.all():
        colours.paste(_NOT_JUDGED, mask=Image.fromarray(~judged * np.uint8(255)))
    return colours


def mask_layer(mask: npt.NDArray[np.bool_]) -> Image.Image:
    """Return a mask, shape (H, W), to draw over an image: RGBA, transparent outside.

    Examples
    --------
    >>> mask_layer(np.array([[False, True]])).getpixel((1, 0))
    (0, 200, 255, 130)
    """
    layer = Image.new("RGBA", mask.shape[::-1], _MASK)
    layer.putalpha(Image.fromarray(mask.astype(np.uint8) * _MASK_ALPHA))
    return layer
