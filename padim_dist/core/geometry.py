"""Where a pixel of the trunk's input lies in the original image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

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

    def box_to_original(
        self, box: tuple[int, int, int, int], height: int, width: int
    ) -> tuple[int, int, int, int]:
        """Smallest box of whole pixels of the original that covers a box of the map.

        Boxes are top, left, bottom, right, half open.

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).box_to_original((0, 0, 224, 224), 512, 1024)
        (32, 64, 480, 960)
        """
        edges = []
        for i, edge in enumerate(box):
            axis = i % 2
            size = (height, width)[axis]
            place = (edge + self.offset[axis]) * size / self.resize[axis]
            edges.append(floor(place) if i < 2 else min(ceil(place), size))
        top, left, bottom, right = edges
        return top, left, bottom, right

    def pixels_a_pixel(self, height: int, width: int) -> float:
        """Pixels of the original (height, width) in one of the map."""
        return height * width / (self.resize[0] * self.resize[1])
