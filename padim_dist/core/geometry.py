"""Resize and crop of images, and positions in the original image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

Grid = tuple[int, int]
"""(height, width)."""
Box = tuple[int, int, int, int]
"""(top, left, bottom, right), half open."""


@dataclass(frozen=True)
class InputGeometry:
    """Resize and centre crop that turn an image into the trunk's input.

    Attributes
    ----------
    resize, crop : (int, int)
        Height and width after the resize, and of the centre crop.
    """

    resize: Grid
    crop: Grid

    @property
    def offset(self) -> Grid:
        """Top and left of the crop in the resized image."""
        top, left = ((r - c) // 2 for r, c in zip(self.resize, self.crop, strict=True))
        return top, left

    def to_original(self, y: int, x: int, height: int, width: int) -> tuple[int, int]:
        """Return the pixel (y, x) of the original image (height, width) for a pixel of the map.

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).to_original(112, 0, 512, 1024)
        (256, 65)
        """
        axes = zip((y, x), self.offset, self.resize, (height, width), strict=True)
        row, column = (
            min(max(ceil((place + offset + 0.5) * size / resized) - 1, 0), size - 1)
            for place, offset, resized, size in axes
        )
        return row, column

    def box_to_original(self, box: Box, height: int, width: int) -> Box:
        """Return the smallest box of whole pixels of the original that covers a box of the map.

        Boxes are (top, left, bottom, right), half open.

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).box_to_original((0, 0, 224, 224), 512, 1024)
        (32, 64, 480, 960)
        """
        edges = []
        for i, edge in enumerate(box):
            axis, size = i % 2, (height, width)[i % 2]
            place = (edge + self.offset[axis]) * size / self.resize[axis]
            edges.append(floor(place) if i < 2 else min(ceil(place), size))
        top, left, bottom, right = edges
        return top, left, bottom, right

    def pixels_a_pixel(self, height: int, width: int) -> float:
        """Return the number of pixels of the original (height, width) in a pixel of the map."""
        return height * width / (self.resize[0] * self.resize[1])


def window_around(box: Box, size: Grid) -> Box:
    """Return a part of an image (height, width) that shows a box with what is around it.

    It has equal sides of 1.5 times the box's longer one, and at least an eighth of the image's, cut
    to the image. Boxes are (top, left, bottom, right), half open.

    Examples
    --------
    >>> window_around((40, 20, 60, 40), (80, 400))
    (25, 5, 75, 55)
    >>> window_around((0, 0, 4, 4), (80, 80))
    (0, 0, 10, 10)
    """
    top, left, bottom, right = box
    wanted = max(round(1.5 * max(bottom - top, right - left)), ceil(max(size) / 8))
    edges = []
    for start, stop, whole in ((top, bottom, size[0]), (left, right, size[1])):
        side = min(wanted, whole)
        first = min(max((start + stop - side) // 2, 0), whole - side)
        edges.append((first, first + side))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right
