"""Bits and colour of a picture, from the first bytes of its file."""

from __future__ import annotations

from contextlib import suppress

from padim_dist.archive.reading.formats import jpeg, tiff
from padim_dist.archive.reading.formats.kinds import kind_of
from padim_dist.archive.reading.formats.pieces import png_bits
from padim_dist.archive.reading.formats.pillow import is_grey
from padim_dist.archive.reading.formats.problems import DAMAGE
from padim_dist.core.pictures.forms import Form
from padim_dist.errors import ImageError

_PNG_GREYS, _PNG_PALETTE = (0, 4), 3
"""Colour types."""


def form_of(data: bytes, width: int, height: int) -> Form | None:
    """Return the form of a picture of a known size; None if its header is damaged.

    The bits are those that the camera delivers if a PNG file says so (chunk ``sBIT``), otherwise
    those of a sample in the file. A palette is taken as colours of 8 bits.
    """
    with suppress(*DAMAGE, ImageError):
        bits, grey = _samples_of(data)
        return Form(width, height, bits, grey)
    return None


def _samples_of(data: bytes) -> tuple[int, bool]:
    """Return bits of a sample, and whether the picture is grey."""
    kind = kind_of(data)
    if kind == "JPEG":
        return 8, jpeg.components_of(data) == 1
    if kind == "PNG":
        colour = data[25]
        return (8, False) if colour == _PNG_PALETTE else (png_bits(data), colour in _PNG_GREYS)
    if kind == "TIFF":
        return tiff.read_samples(data)
    return 8, kind == "BMP" and is_grey(data)
