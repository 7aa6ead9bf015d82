"""Areas of pictures: masks in files, and polygons, at the size that the trunk sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from padim_dist.archive.reading.decode import decode_mask
from padim_dist.archive.reading.transform import prepare_mask
from padim_dist.core.geometry import Grid, InputGeometry

Pixels = npt.NDArray[np.bool_]


def area_of_file(data: bytes, max_pixels: int, geometry: InputGeometry) -> tuple[Pixels, Grid]:
    """Return which pixels of the crop are inside a mask, (H, W), and the size of the mask.

    Raises
    ------
    ImageError
        If it is not an image, damaged or too large.
    """
    mask = decode_mask(data, max_pixels)
    height, width = mask.shape
    return prepare_mask(mask, geometry).numpy(), (height, width)


def area_of_polygons(
    polygons: Sequence[Sequence[tuple[float, float]]], geometry: InputGeometry
) -> Pixels:
    """Return which pixels of the crop are inside polygons, (H, W).

    Corners are (x, y) in shares of the width and height of the picture.
    """
    height, width = geometry.resize
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        # A drawing pixel is a point at its centre.
        pen.polygon([(x * width - 0.5, y * height - 0.5) for x, y in polygon], fill=255)
    return prepare_mask(torch.from_numpy(np.array(canvas) > 0), geometry).numpy()
