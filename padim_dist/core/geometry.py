"""Resize and crop of images, and positions in the original image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from padim_dist.core.align.motion import Motion

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

    @property
    def whole(self) -> InputGeometry:
        """The same resize without a crop."""
        return InputGeometry(self.resize, self.resize)

    @property
    def unseen(self) -> float:
        """Share of every image that the crop cuts off, which the trunk does not see.

        Examples
        --------
        >>> InputGeometry((256, 256), (224, 224)).unseen
        0.234375
        """
        return 1 - self.crop[0] * self.crop[1] / (self.resize[0] * self.resize[1])

    def place_in_original(
        self, y: float, x: float, size: Grid, motion: Motion | None = None
    ) -> tuple[float, float]:
        """Return where a place (y, x) of the map is in the original, which it may leave.

        Places are in pixels from the upper left corner; the centre of the first pixel is 0.5.

        Parameters
        ----------
        y, x : float
            Place in the map.
        size : (int, int)
            Height and width of the original.
        motion : Motion, optional
            How the original lies, if it was aligned.
        """
        y, x = y + self.offset[0], x + self.offset[1]
        if motion:
            (a, b, c), (d, e, f) = motion.affine(self.resize, size)
            # Rounded, so that a quarter turn of a whole pixel is a whole pixel.
            y, x = round(a * y + b * x + c, 6), round(d * y + e * x + f, 6)
        return y * size[0] / self.resize[0], x * size[1] / self.resize[1]

    def to_original(
        self, y: int, x: int, height: int, width: int, motion: Motion | None = None
    ) -> tuple[int, int]:
        """Return the pixel (y, x) of the original image (height, width) for a pixel of the map.

        With `motion` it is that of an image that was aligned; a pixel beyond its edges stands for
        the nearest one.

        Examples
        --------
        >>> geometry = InputGeometry((256, 256), (224, 224))
        >>> geometry.to_original(112, 0, 512, 1024)
        (256, 65)
        >>> geometry.to_original(112, 0, 512, 1024, Motion(10, 0, 0))
        (276, 65)
        """
        found = self.place_in_original(y + 0.5, x + 0.5, (height, width), motion)
        row, column = (
            min(max(ceil(place) - 1, 0), size - 1)
            for place, size in zip(found, (height, width), strict=True)
        )
        return row, column

    def box_to_original(
        self, box: Box, height: int, width: int, motion: Motion | None = None
    ) -> Box:
        """Return the smallest box of whole pixels of the original that covers a box of the map.

        Boxes are (top, left, bottom, right), half open. With `motion` the box of the map is that of
        an image that was aligned. It has at least one pixel of the original.

        Examples
        --------
        >>> geometry = InputGeometry((256, 256), (224, 224))
        >>> geometry.box_to_original((0, 0, 224, 224), 512, 1024)
        (32, 64, 480, 960)
        >>> geometry.box_to_original((100, 100, 140, 120), 512, 512, Motion(0, 0, 90))
        (240, 232, 280, 312)
        """
        size = height, width
        corners = [self.place_in_original(y, x, size, motion) for y in box[::2] for x in box[1::2]]
        rows, columns = (sorted(axis) for axis in zip(*corners, strict=True))
        top, left = (
            min(max(floor(places[0]), 0), side - 1)
            for places, side in zip((rows, columns), size, strict=True)
        )
        bottom, right = (
            max(min(ceil(places[-1]), side), first + 1)
            for places, side, first in zip((rows, columns), size, (top, left), strict=True)
        )
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
