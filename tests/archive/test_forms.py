"""Bits and colour by the headers of real files."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from padim_dist.archive.reading.formats.forms import form_of
from padim_dist.core.pictures.forms import Form

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY + 9, GREY + 90], axis=-1)
DEEP = GREY.astype(np.uint16) * 80


def pillow(pixels: np.ndarray, kind: str, mode: str | None = None) -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def with_significant_bits(png: bytes, bits: int) -> bytes:
    """Return a grey PNG file with a chunk ``sBIT`` after its header."""
    chunk = b"sBIT" + bytes([bits])
    framed = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + framed + png[33:]


@pytest.mark.parametrize(
    ("data", "bits", "grey"),
    [
        (pillow(GREY, "JPEG"), 8, True),
        (pillow(COLOUR, "JPEG"), 8, False),
        (pillow(COLOUR, "JPEG", "CMYK"), 8, False),
        (pillow(GREY, "PNG"), 8, True),
        (pillow(GREY, "PNG", "1"), 1, True),
        (pillow(GREY, "PNG", "LA"), 8, True),
        (pillow(COLOUR, "PNG"), 8, False),
        (pillow(COLOUR, "PNG", "P"), 8, False),
        (pillow(DEEP, "PNG"), 16, True),
        (with_significant_bits(pillow(DEEP, "PNG"), 12), 12, True),
        (pillow(GREY, "BMP"), 8, True),
        (pillow(COLOUR, "BMP"), 8, False),
        (pillow(COLOUR, "WEBP"), 8, False),
        (tiff(GREY), 8, True),
        (tiff(DEEP), 16, True),
        (tiff(COLOUR, photometric="rgb"), 8, False),
        (tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16)), 8, False),
    ],
)
def test_headers_say_bits_and_colour(data, bits, grey):
    assert form_of(data, 8, 6) == Form(8, 6, bits, grey)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_damaged_headers_say_nothing(kind):
    whole = tiff(COLOUR) if kind == "TIFF" else pillow(COLOUR, kind)
    assert form_of(b"", 8, 6) is None
    for stop in range(1, 24):  # no header is whole before this
        assert form_of(whole[:stop], 8, 6) is None
