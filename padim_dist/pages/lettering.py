"""Text in pictures: fonts, and texts cut to a width."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont

Font = ImageFont.FreeTypeFont
_ELLIPSIS = "…"


@cache
def font(size: int, bold: bool = False) -> Font:
    """Return DejaVu Sans of a size in pixels; Pillow's own font lacks even the letter é."""
    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", name)), size)


def fitted(text: str, face: Font, width: float) -> str:
    """Return a text of at most `width` pixels; what does not fit is cut out of its middle.

    The end of a path tells more than its middle, so two thirds of what is kept are its end.

    Examples
    --------
    >>> fitted("a/b.png", font(12), 100), fitted("camera/2026-11-26/long/0001.png", font(12), 100)
    ('a/b.png', 'cam…0001.png')
    """
    if face.getlength(text) <= width:
        return text
    fits, most = _ELLIPSIS, len(text)
    least = 0
    while least < most:
        kept = (least + most + 1) // 2
        head = kept // 3
        shorter = f"{text[:head]}{_ELLIPSIS}{text[len(text) - (kept - head) :]}"
        if kept < len(text) and face.getlength(shorter) <= width:
            fits, least = shorter, kept
        else:
            most = kept - 1
    return fits
