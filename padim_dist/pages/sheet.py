"""The contact sheet: image, heatmap overlay and mask of each anomaly, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps

from padim_dist.pages.heat import heat_layer
from padim_dist.pages.lettering import fitted, font
from padim_dist.pages.words import probability, score

_TILE = 224
_GAP = 8
_CAPTION = 44
_TITLE = 48
_GROUND = (250, 250, 250)
_INK = (30, 30, 30)
_FAINT = (95, 95, 95)
_EDGE = (205, 205, 205)
_RED = (190, 30, 45)
_UNSEEN, _UNSEEN_ALPHA = (30, 30, 30), 165
"""Colour and opacity over what the model does not see."""


@dataclass(frozen=True)
class SheetItem:
    """One image of the sheet.

    Attributes
    ----------
    pixels : array
        uint8, shape (H, W, 3): the resized image.
    heat : array
        Anomaly map as shares of the colour scale, 0 to 1, shape (H, W); NaN where the model does
        not see the image.
    mask : array or None
        bool, shape (H, W): the ground truth, where known.
    name, group, label : str, str, str or None
        Path of the image, its group (the camera), and its label, without unseen characters.
    score, p_value, flagged : float, float or None, bool or None
        As in the score table.
    """

    pixels: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_] | None
    name: str
    group: str
    label: str | None
    score: float
    p_value: float | None
    flagged: bool | None


def overlay(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> Image.Image:
    """Return an image in grey with its heatmap over it; dark where the heatmap is NaN: not seen."""
    unseen = np.isnan(heat)
    layer = heat_layer(np.where(unseen, 0, heat))
    grey = ImageOps.grayscale(Image.fromarray(pixels)).convert("RGB")
    grey.paste(layer, mask=layer)
    if unseen.any():
        grey.paste(_UNSEEN, mask=Image.fromarray((unseen * _UNSEEN_ALPHA).astype(np.uint8)))
    return grey


def contact_sheet(
    items: Sequence[SheetItem], title: str | None = None, columns: int = 2
) -> Image.Image:
    """Draw the sheet: for each item its image, overlay, and mask if any has one, side by side.

    Parameters
    ----------
    items : sequence of SheetItem
        At least one image, in the order to draw.
    title : str, optional
        A line above all of them, e.g. the night.
    columns : int, optional
        Items in a row.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    masks = any(item.mask is not None for item in items)
    width = (2 + masks) * (_TILE + _GAP) - _GAP
    columns = min(columns, len(items))
    height, above = _TILE + _CAPTION, _TITLE if title else _GAP
    rows = -(-len(items) // columns)
    size = columns * (width + 3 * _GAP) + _GAP, above + rows * (height + 2 * _GAP)
    sheet = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(sheet)
    if title:
        large = font(20, bold=True)
        pen.text((2 * _GAP, 12), fitted(title, large, size[0] - 4 * _GAP), _INK, large)
    for i, item in enumerate(items):
        left = 2 * _GAP + i % columns * (width + 3 * _GAP)
        top = above + i // columns * (height + 2 * _GAP)
        _caption(pen, item, left, top, width)
        tiles = [Image.fromarray(item.pixels), overlay(item.pixels, item.heat)]
        tiles += [_mask(item)] if masks else []
        for k, tile in enumerate(tiles):
            x, y = left + k * (_TILE + _GAP), top + _CAPTION
            sheet.paste(tile.resize((_TILE, _TILE), Image.Resampling.BILINEAR), (x, y))
            pen.rectangle([x - 1, y - 1, x + _TILE, y + _TILE], outline=_EDGE)
    return sheet


def _caption(pen: ImageDraw.ImageDraw, item: SheetItem, left: int, top: int, width: int) -> None:
    """Write p-value, flag, group and label in one line, path and score in the next."""
    bold, plain, small = font(16, bold=True), font(16), font(13)
    place = float(left)
    if item.p_value is not None:
        text = f"p = {probability(item.p_value)}"
        pen.text((place, top), text, _INK, bold)
        place += bold.getlength(text) + 10
    if item.flagged is not None:
        text = "flagged" if item.flagged else "not flagged"
        end = place + small.getlength(text) + 12
        box = [place, top + 1, end, top + 19]
        if item.flagged:
            pen.rounded_rectangle(box, 4, fill=_RED)
        else:
            pen.rounded_rectangle(box, 4, outline=_FAINT)
        ink = "white" if item.flagged else _FAINT
        pen.text((place + 6, top + 10), text, ink, small, anchor="lm")
        place = end + 10
    text = f"{item.group}: {item.label}" if item.label else item.group
    pen.text((place, top), fitted(text, plain, left + width - place), _INK, plain)
    text = f"score {score(item.score)}"
    pen.text((left + width, top + 23), text, _FAINT, small, anchor="ra")
    room = width - small.getlength(text) - 12
    pen.text((left, top + 23), fitted(item.name, small, room), _FAINT, small)


def _mask(item: SheetItem) -> Image.Image:
    if item.mask is not None:
        return Image.fromarray((item.mask * 255).astype(np.uint8)).convert("RGB")
    tile = Image.new("RGB", (_TILE, _TILE), (225, 225, 225))
    middle = (_TILE // 2, _TILE // 2)
    ImageDraw.Draw(tile).text(middle, "no mask", _FAINT, font(14), anchor="mm")
    return tile
