"""The contact sheet: image, heatmap overlay and mask of each anomaly, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from padim_dist.pages.heat import heat_layer

_TILE = 224
_GAP = 8
_CAPTION = 40
_GROUND = (250, 250, 250)
_INK = (30, 30, 30)
_FAINT = (110, 110, 110)


@dataclass(frozen=True)
class SheetItem:
    """One image of the sheet.

    Attributes
    ----------
    pixels : array
        uint8, shape (H, W, 3): the trunk's input.
    heat : array
        Anomaly map as shares of the colour scale, 0 to 1, shape (H, W).
    mask : array or None
        bool, shape (H, W): the ground truth, where known.
    title, subtitle : str
        The two lines of the caption.
    """

    pixels: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_] | None
    title: str
    subtitle: str


def overlay(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> Image.Image:
    """Return an image in grey with its heatmap over it."""
    layer = heat_layer(heat)
    grey = ImageOps.grayscale(Image.fromarray(pixels)).convert("RGB")
    grey.paste(layer, mask=layer)
    return grey


def contact_sheet(items: Sequence[SheetItem], columns: int = 2) -> Image.Image:
    """Draw the sheet: for each item its image, overlay, and mask if any has one, side by side."""
    masks = any(item.mask is not None for item in items)
    width = (2 + masks) * (_TILE + _GAP) - _GAP
    columns = min(columns, len(items))
    height = _TILE + _CAPTION
    rows = -(-len(items) // columns)
    size = columns * (width + 3 * _GAP) + _GAP, rows * (height + 2 * _GAP) + _GAP
    sheet = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for i, item in enumerate(items):
        left = 2 * _GAP + i % columns * (width + 3 * _GAP)
        top = _GAP + i // columns * (height + 2 * _GAP)
        pen.text((left, top), item.title, fill=_INK, font=large)
        pen.text((left, top + 19), item.subtitle, fill=_FAINT, font=small)
        tiles = [Image.fromarray(item.pixels), overlay(item.pixels, item.heat)]
        tiles += [_mask(item)] if masks else []
        for k, tile in enumerate(tiles):
            place = (left + k * (_TILE + _GAP), top + _CAPTION)
            sheet.paste(tile.resize((_TILE, _TILE), Image.Resampling.BILINEAR), place)
    return sheet


def _mask(item: SheetItem) -> Image.Image:
    if item.mask is not None:
        return Image.fromarray((item.mask * 255).astype(np.uint8)).convert("RGB")
    tile = Image.new("RGB", (_TILE, _TILE), (225, 225, 225))
    font = ImageFont.load_default(14)
    ImageDraw.Draw(tile).text((_TILE // 2, _TILE // 2), "no mask", _FAINT, font, anchor="mm")
    return tile
