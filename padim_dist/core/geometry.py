"""Where a pixel of the trunk's input lies in the original image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

Grid = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class InputGeometry:
    """How an image of any size becomes the trunk's input: a resize, then a centre crop.

    Attributes
    ----------
    resize : (int, int)
        Height and width after the resize.
    crop : (int, int)
        Height and width of the centre crop.
    """

    resize: Grid
    crop: Grid

    @property
    def offset(self) -> Grid:
        """Top and left of the crop in the resized image."""
        top, left = ((r - c) // 2 for r, c in zip(self.resize, self.crop, strict=True))
        return top, left

    def to_original(self, y: int, x: int, height: int, width: int) -> tuple[int, int]:
        """Pixel of the original image (height, width) under the map's pixel (y, x).

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).to_original(112, 0, 512, 1024)
        (256, 65)
        """
        places = []
        for place, offset, resized, original in zip(
            (y, x), self.offset, self.resize, (height, width), strict=True
        ):
            centre = (place + offset + 0.5) * original / resized
            places.append(min(max(ceil(centre) - 1, 0), original - 1))
        return places[0], places[1]

    def covered(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Top, left, height and width of the crop in pixels of an original (height, width).

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).covered(512, 1024)
        (32.0, 64.0, 448.0, 896.0)
        """
        down, right = height / self.resize[0], width / self.resize[1]
        (top, left), (rows, columns) = self.offset, self.crop
        return top * down, left * right, rows * down, columns * right
