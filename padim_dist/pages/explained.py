"""Why an image is anomalous: image, heatmap and a normal image, whole and enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from padim_dist.core.geometry import Box
from padim_dist.pages.lettering import fitted, font
from padim_dist.pages.sheet import overlay

_CELL = 360
_GAP = 12
_LINE = 22
_BAR = 16
_GROUND, _INK, _FAINT, _EDGE = (250, 250, 250), (30, 30, 30), (95, 95, 95), (205, 205, 205)
_BOX = (0, 200, 255)
_LEVELS = ((68, 119, 170), (204, 153, 40), (170, 51, 119))
"""Colours of the levels, told apart by colour-blind people too (Paul Tol's bright scheme)."""


@dataclass(frozen=True)
class Bar:
    """A level of the score: its name, its part, and the usual part."""

    name: str
    part: float
    usual: float | None


@dataclass(frozen=True)
class Explained:
    """What the picture shows; texts have no unseen characters.

    Attributes
    ----------
    title, name : str
        Line above all, and the path of the image.
    pixels : array
        uint8, shape (H, W, 3): the original.
    heat : array
        Anomaly map of the whole image as shares of the colour scale, 0 to 1, of any size; NaN where
        the model does not see the image.
    box, window : Box
        The region, and the part of the image to enlarge, in pixels of the original.
    normal : array or None
        uint8, shape (H', W', 3): the most similar normal image, of any size; it shows the same
        part of the scene.
    normal_name : str
        Its path, or why there is none.
    bars : sequence of Bar
        Parts of the score.
    """

    title: str
    name: str
    pixels: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]
    box: Box
    window: Box
    normal: npt.NDArray[np.uint8] | None
    normal_name: str
    bars: Sequence[Bar]


def explanation(shown: Explained) -> Image.Image:
    """Draw the whole images in one row, the enlarged region of each in the next, then the parts."""
    height, width = shown.pixels.shape[:2]
    whole = (0, 0, height, width)
    tile, zoomed = _fitting(whole), _fitting(shown.window)
    bars = len(shown.bars) * (_BAR + 8) + _GAP if shown.bars else 0
    first = _GAP + 30 + _LINE
    second = first + tile[1] + _GAP + _LINE
    size = 3 * (_CELL + _GAP) + _GAP, second + zoomed[1] + _GAP + bars
    picture = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(picture)
    bold, plain = font(18, bold=True), font(13)
    pen.text((_GAP, _GAP), fitted(shown.title, bold, size[0] - 2 * _GAP), _INK, bold)
    names = (shown.name, "heatmap", f"most similar normal image: {shown.normal_name}")
    for column, name in enumerate(names):
        x = _GAP + column * (_CELL + _GAP)
        pen.text((x, first - _LINE + 3), fitted(name, plain, _CELL), _FAINT, plain)
        pen.text((x, second - _LINE + 3), "enlarged", _FAINT, plain)
        for y, side, window in ((first, tile, whole), (second, zoomed, shown.window)):
            picture.paste(_tile(shown, column, window, side), (x, y))
            pen.rectangle([x - 1, y - 1, x + side[0], y + side[1]], outline=_EDGE)
    _draw_bars(pen, shown.bars, second + zoomed[1] + _GAP, size[0])
    return picture


def _fitting(window: Box) -> tuple[int, int]:
    """Return width and height of a part of an image in a cell."""
    height, width = window[2] - window[0], window[3] - window[1]
    scale = min(_CELL / width, 1.5 * _CELL / height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _tile(shown: Explained, column: int, window: Box, size: tuple[int, int]) -> Image.Image:
    """Return a part of the image, of the heatmap over it, or of the normal image, with the box."""
    height, width = shown.pixels.shape[:2]
    if column == 2:
        if shown.normal is None:
            return Image.new("RGB", size, (225, 225, 225))
        tile = _cut(Image.fromarray(shown.normal), window, (height, width), size)
    else:
        tile = _cut(Image.fromarray(shown.pixels), window, (height, width), size)
    if column == 1:
        heat = _cut(Image.fromarray(shown.heat), window, (height, width), size)
        tile = overlay(np.asarray(tile), np.asarray(heat))
    top, left = window[:2]
    scale = size[1] / (window[2] - top), size[0] / (window[3] - left)
    y0, x0, y1, x1 = ((shown.box[i] - window[i % 2]) * scale[i % 2] for i in range(4))
    ImageDraw.Draw(tile).rectangle([x0 - 1, y0 - 1, x1, y1], outline=_BOX, width=2)
    return tile


def _cut(
    image: Image.Image, window: Box, of: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """Return a window of an image at a size; the window is one of an image (height, width) `of`."""
    across, down = image.width / of[1], image.height / of[0]
    top, left, bottom, right = window
    part = (left * across, top * down, right * across, bottom * down)
    filters = Image.Resampling.LANCZOS if image.mode == "RGB" else Image.Resampling.BILINEAR
    return image.resize(size, filters, box=part)


def _draw_bars(pen: ImageDraw.ImageDraw, bars: Sequence[Bar], top: int, width: int) -> None:
    """Draw the parts of the score, each with a line where it usually is."""
    if not bars:
        return
    plain = font(13)
    start, end = _GAP + 190, width - _GAP - 240
    most = max(max(bar.part, bar.usual or 0.0) for bar in bars) or 1.0
    scale = (end - start) / most
    for number, bar in enumerate(bars):
        y = top + number * (_BAR + 8)
        middle = y + _BAR // 2
        pen.text((start - 8, middle), fitted(bar.name, plain, 180), _INK, plain, anchor="rm")
        stop = start + max(bar.part, 0.0) * scale
        pen.rectangle([start, y, stop, y + _BAR], fill=_LEVELS[number % len(_LEVELS)])
        text = f"{bar.part:.2f}"
        if bar.usual is not None:
            x = start + bar.usual * scale
            pen.line([x, y - 3, x, y + _BAR + 3], fill=_INK, width=2)
            text += f", usually {bar.usual:.2f}"
            stop = max(stop, x)
        pen.text((stop + 8, middle), text, _FAINT, plain, anchor="lm")
