"""Synthetic images of two machined parts, normal and with five kinds of defect.

A part and the mask of its defect are drawn at twice their size, then shifted and turned
together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from padim_dist.synthetic.belt import LARGE, SIZE, ground, light, noise

_CENTRE = LARGE // 2
GROUPS = ("flange", "board")
DEFECTS = ("scratch", "stain", "chipped", "missing", "fibre")

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


@dataclass
class _Sheet:
    """A part being drawn, and the mask of its defect."""

    part: Image.Image
    mask: Image.Image


def draw_part(
    group: str, defect: str | None, rng: np.random.Generator, moves: bool = False
) -> tuple[Image.Image, Image.Image]:
    """Draw a part.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    defect : str or None
        One of `DEFECTS`; None for a normal part.
    rng : numpy.random.Generator
        Source of position, lighting, texture and defect.
    moves : bool, optional
        Whether parts lie turned by up to 8 degrees and shifted by up to 14 pixels along each axis,
        not nearly alike.

    Returns
    -------
    picture : PIL.Image.Image
        RGB, `SIZE` x `SIZE`.
    mask : PIL.Image.Image
        Mode L; 255 in the defect.
    """
    size = (LARGE, LARGE)
    sheet = _Sheet(Image.new("RGBA", size, (0, 0, 0, 0)), Image.new("L", size, 0))
    draw = _draw_flange if group == "flange" else _draw_board
    draw(sheet, defect == "missing", rng)
    if defect in _SPOIL:
        _SPOIL[defect](sheet, rng, group)
    shift = tuple((rng.uniform(-28, 28, 2) if moves else rng.normal(0, 2, 2)).round().astype(int))
    turn = rng.uniform(-8, 8) if moves else rng.normal(0, 0.5)
    part, mask = (
        image.rotate(turn, Image.Resampling.BICUBIC, translate=shift)
        for image in (sheet.part, sheet.mask)
    )
    picture = light(ground(rng), part, rng)
    mask = mask.resize((SIZE, SIZE), Image.Resampling.BOX).point(lambda v: 255 * (v > 127))
    return picture, mask


def _ring(radius: float) -> Box:
    low, high = round(_CENTRE - radius), round(_CENTRE + radius)
    return low, low, high, high


def _draw_flange(sheet: _Sheet, missing: bool, rng: np.random.Generator) -> None:
    """Draw a turned steel flange: a ring with eight bolt holes and a raised collar."""
    y, x = np.mgrid[:LARGE, :LARGE] - _CENTRE
    radius = np.hypot(y, x)
    turned = 9 * np.sin(radius / 2.2) + 18 * np.cos(2 * np.arctan2(y, x))
    level = np.clip(158 + turned + 5 * np.asarray(noise(rng, 1)), 0, 255)
    metal = np.stack([level, level, level * 1.03], -1).clip(0, 255).astype(np.uint8)
    shape = Image.new("L", (LARGE, LARGE), 0)
    pen = ImageDraw.Draw(shape)
    pen.ellipse(_ring(250), fill=255)
    pen.ellipse(_ring(92), fill=0)
    closed = int(rng.integers(8)) if missing else None
    for hole in range(8):
        angle = pi / 8 + hole * pi / 4
        cy, cx = _CENTRE + 196 * sin(angle), _CENTRE + 196 * cos(angle)
        box = (cx - 24, cy - 24, cx + 24, cy + 24)
        if hole == closed:
            ImageDraw.Draw(sheet.mask).ellipse(box, fill=255)
        else:
            pen.ellipse(box, fill=0)
    sheet.part.paste(Image.fromarray(metal), (0, 0), shape)
    pen = ImageDraw.Draw(sheet.part)
    for r, shade in ((248, 200), (140, 96), (136, 214), (96, 118)):
        pen.ellipse(_ring(r), outline=(shade, shade, shade, 255), width=4)
    clear = Image.new("RGBA", (LARGE, LARGE), (0, 0, 0, 0))
    sheet.part = Image.composite(sheet.part, clear, shape)


_CHIPS: tuple[Box, ...] = (
    (130, 130, 270, 230),
    (350, 150, 500, 300),
    (140, 340, 250, 480),
    (330, 400, 500, 480),
)


def _draw_board(sheet: _Sheet, missing: bool, rng: np.random.Generator) -> None:
    """Draw a circuit board: traces, vias and four chips."""
    pen = ImageDraw.Draw(sheet.part)
    pen.rounded_rectangle((70, 70, 570, 570), 22, fill=(24, 96, 62, 255))
    for lane in range(7):
        at = 96 + lane * 14
        outer = [(at, 90), (at, 300 + 30 * lane), (at + 180, 480 + 10 * lane), (at + 180, 552)]
        inner = [(552, at + 40), (420 - 10 * lane, at + 40), (300, at + 200), (300, 552)]
        for trace in (outer, inner):
            pen.line(trace, fill=(52, 136, 92, 255), width=4)
    for row in range(9):
        for column in range(2):
            cy, cx = 110 + row * 52, 300 + column * 252
            pen.ellipse((cx - 9, cy - 9, cx + 9, cy + 9), fill=(204, 170, 84, 255))
            pen.ellipse((cx - 4, cy - 4, cx + 4, cy + 4), fill=(30, 40, 34, 255))
    gone = int(rng.integers(len(_CHIPS))) if missing else None
    for chip, (left, top, right, bottom) in enumerate(_CHIPS):
        for leg in range(left + 12, right - 8, 22):
            pen.rectangle((leg, top - 12, leg + 8, bottom + 12), fill=(190, 192, 196, 255))
        if chip == gone:
            pen.rectangle((left, top, right, bottom), fill=(28, 108, 70, 255))
            ImageDraw.Draw(sheet.mask).rectangle((left, top, right, bottom), fill=255)
            continue
        shade = 34 + int(rng.integers(6))
        pen.rounded_rectangle((left, top, right, bottom), 8, fill=(shade, shade, shade + 4, 255))
        pen.ellipse((left + 10, top + 10, left + 24, top + 24), fill=(78, 78, 82, 255))
    grain = np.asarray(noise(rng, 1))
    pixels = np.asarray(sheet.part).astype(np.float64)
    pixels[..., :3] = np.clip(pixels[..., :3] + 4 * grain[..., None], 0, 255)
    sheet.part = Image.fromarray(pixels.astype(np.uint8), "RGBA")


def _place(rng: np.random.Generator, group: str) -> tuple[float, float]:
    """Return a random point (y, x) on the part."""
    if group == "board":
        y, x = rng.uniform(130, 510, 2)
        return float(y), float(x)
    angle, radius = rng.uniform(0, 2 * pi), rng.uniform(125, 225)
    return _CENTRE + radius * sin(angle), _CENTRE + radius * cos(angle)


def _stroke(
    sheet: _Sheet,
    rng: np.random.Generator,
    group: str,
    colour: Colour,
    width: int,
    length: float,
    bend: float,
) -> None:
    """Draw a curved stroke on the part and, a little wider, in the mask."""
    y, x = _place(rng, group)
    angle = rng.uniform(0, 2 * pi)
    points = [(x, y)]
    for _ in range(24):
        angle += rng.normal(0, bend)
        x, y = x + length / 24 * cos(angle), y + length / 24 * sin(angle)
        points.append((x, y))
    ImageDraw.Draw(sheet.part).line(points, fill=(*colour, 255), width=width, joint="curve")
    ImageDraw.Draw(sheet.mask).line(points, fill=255, width=width + 6, joint="curve")


def _scratch(sheet: _Sheet, rng: np.random.Generator, group: str) -> None:
    light: Colour = (236, 238, 242) if group == "flange" else (206, 214, 200)
    _stroke(sheet, rng, group, light, int(rng.integers(4, 8)), rng.uniform(90, 190), 0.08)


def _fibre(sheet: _Sheet, rng: np.random.Generator, group: str) -> None:
    colours: list[Colour] = [(180, 44, 40), (44, 74, 180), (226, 206, 90)]
    colour = colours[int(rng.integers(3))]
    _stroke(sheet, rng, group, colour, int(rng.integers(5, 8)), rng.uniform(140, 240), 0.35)


def _blob(rng: np.random.Generator, y: float, x: float, size: float) -> Image.Image:
    """Return an irregular round patch, mode L."""
    patch = Image.new("L", (LARGE, LARGE), 0)
    angles = np.linspace(0, 2 * pi, 28, endpoint=False)
    radii = size * (1 + 0.22 * np.convolve(rng.normal(0, 1, 32), np.ones(5) / 2.2, "valid"))
    points = [(x + r * cos(a), y + r * sin(a)) for a, r in zip(angles, radii, strict=True)]
    ImageDraw.Draw(patch).polygon(points, fill=255)
    return patch


def _stain(sheet: _Sheet, rng: np.random.Generator, group: str) -> None:
    patch = _blob(rng, *_place(rng, group), rng.uniform(20, 38))
    on_part = Image.composite(patch, Image.new("L", patch.size, 0), sheet.part.getchannel("A"))
    soft = on_part.filter(ImageFilter.GaussianBlur(4)).point(lambda v: v * 0.72)
    colour: Colour = (92, 58, 26) if group == "flange" else (196, 196, 150)
    sheet.part.paste((*colour, 255), (0, 0), soft)
    sheet.mask = on_part


def _chipped(sheet: _Sheet, rng: np.random.Generator, group: str) -> None:
    if group == "flange":
        angle = rng.uniform(0, 2 * pi)
        y, x = _CENTRE + 248 * sin(angle), _CENTRE + 248 * cos(angle)
    else:
        y, x = (float(rng.choice([72, 568])), float(rng.uniform(110, 530)))
        if rng.random() < 0.5:
            y, x = x, y
    bite = _blob(rng, y, x, rng.uniform(24, 40))
    solid = sheet.part.getchannel("A")
    sheet.mask = Image.composite(bite, Image.new("L", bite.size, 0), solid)
    sheet.part.paste((0, 0, 0, 0), (0, 0), bite)


_SPOIL: dict[str, Callable[[_Sheet, np.random.Generator, str], None]] = {
    "scratch": _scratch,
    "stain": _stain,
    "chipped": _chipped,
    "fibre": _fibre,
}
