"""TIFF: tifffile reads the tags and unpacks strips and tiles; colours are mapped here.

Pillow takes the range, polarity and planes of many forms wrongly, and its libtiff prints to stderr.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image
from tifffile import TiffFile, TiffPage

from padim_dist.archive.reading.formats import jpeg
from padim_dist.archive.reading.formats.levels import (
    eight_bits,
    looked_up,
    three_channels,
    unmultiplied,
)
from padim_dist.archive.reading.formats.problems import check_size, damaged, unsupported
from padim_dist.archive.reading.formats.upright import ORIENTATION, turned

_EXIF_DIRECTORY = 0x8769
Array = npt.NDArray[Any]
Space = Literal["grey", "RGB", "palette", "CMYK", "YCbCr"]

# It reports each odd tag; the image's row has the reason of a failure.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False

_SPACES: dict[int, tuple[Space, int]] = {
    0: ("grey", 1),
    1: ("grey", 1),
    2: ("RGB", 3),
    3: ("palette", 1),
    5: ("CMYK", 4),
    6: ("YCbCr", 3),
}
"""Colour space and number of its samples, by photometric interpretation."""
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000}
"""None, CCITT, LZW, JPEG, Deflate, PackBits, LZMA and Zstandard: what libtiff is built with, too.
Decoders of others crash on damaged data, or nothing is known about that."""
_JPEG = 7
_LZW = 5
_ASSOCIATED = 1
_UINT, _INT, _FLOAT = 1, 2, 3


@dataclass(frozen=True)
class Samples:
    """A picture as it is in its file.

    Attributes
    ----------
    values : array
        Shape (H, W, samples), upright: the samples of the colour, without others.
    space : str
        What they mean.
    bits : int
        Bits of a sample.
    is_inverted : bool
        Whether zero is white.
    alpha : array or None
        The opacity (H, W), if the colours are multiplied by it.
    colours : array or None
        The palette: (3, entries).
    """

    values: Array
    space: Space
    bits: int
    is_inverted: bool = False
    alpha: Array | None = None
    colours: Array | None = None


def read_tiff(data: bytes, max_pixels: int, bits: int | None) -> Array:
    """Decode the first page to RGB: uint8, shape (H, W, 3), upright.

    Parameters
    ----------
    data, max_pixels : bytes, int
        The file, and the maximum number of its pixels.
    bits : int or None
        Bits of a sample that the camera delivers in 16 bits.
    """
    return _to_rgb(_read(data, max_pixels, is_mask=False), bits)


def read_tiff_mask(data: bytes, max_pixels: int) -> Array:
    """Decode the first page for its zeros: (H, W, samples), any type, upright, without alpha."""
    samples = _read(data, max_pixels, is_mask=True)
    if samples.space == "grey" and samples.values.dtype.kind == "u":
        return (2**samples.bits - 1) - samples.values if samples.is_inverted else samples.values
    if samples.colours is not None:
        return samples.colours.T[samples.values[..., 0]]
    return samples.values if samples.space in ("grey", "RGB") else _to_rgb(samples, None)


def read_head(data: bytes) -> tuple[int, int, int]:
    """Return width, height and orientation of the first page; its tags may be at the file's end."""
    with _first_page(data) as page:
        return page.imagewidth, page.imagelength, page.tags.valueof(ORIENTATION, 1)


def read_samples(data: bytes) -> tuple[int, bool]:
    """Return bits of a sample of the first page, and whether it is grey."""
    with _first_page(data) as page:
        space = _SPACES[page.photometric][0]
        return (8, False) if space == "palette" else (int(page.bitspersample), space == "grey")


def read_times(data: bytes) -> tuple[object, object]:
    """Return the tags DateTimeOriginal and OffsetTimeOriginal of the first page; None if not there.

    Both are in the EXIF directory of the page.
    """
    with _first_page(data) as page:
        exif = page.tags.valueof(_EXIF_DIRECTORY) or {}
    return exif.get("DateTimeOriginal"), exif.get("OffsetTimeOriginal")


@contextmanager
def _first_page(data: bytes) -> Iterator[TiffPage]:
    with TiffFile(
        io.BytesIO(data), _multifile=False, is_lsm=False, is_scanimage=False, is_ndpi=False
    ) as file:
        page = file.pages.first
        assert isinstance(page, TiffPage)
        yield page


def _read(data: bytes, max_pixels: int, is_mask: bool) -> Samples:
    with _first_page(data) as page:
        _check(page, max_pixels, is_mask)
        space, count = _SPACES[page.photometric]
        if space == "YCbCr" and page.compression == _JPEG:
            space = "RGB"  # libjpeg converts it
        picture = _assemble(page, data)
        colours = _palette(page) if space == "palette" else None
        orientation = page.tags.valueof(ORIENTATION, 1)
    alpha = picture[..., count] if page.extrasamples[:1] == (_ASSOCIATED,) else None
    return Samples(
        turned(picture[..., :count], orientation),
        space,
        page.bitspersample,
        is_inverted=page.photometric == 0,
        alpha=None if alpha is None else turned(alpha, orientation),
        colours=colours,
    )


def _check(page: TiffPage, max_pixels: int, is_mask: bool) -> None:
    """Refuse what is too large, has no range, or is not read, before its pixels are looked at."""
    width, height, samples = page.imagewidth, page.imagelength, page.samplesperpixel
    if width < 1 or height < 1 or samples < 1:
        raise damaged("TIFF", f"its tags say {width}x{height} pixels of {samples} samples")
    check_size(width, height, max_pixels)
    bits, form = page.bitspersample, page.sampleformat
    if page.photometric not in _SPACES:
        raise unsupported(f"TIFF with photometric interpretation {_name(page.photometric)}")
    if page.compression not in _COMPRESSIONS:
        raise unsupported(
            f"TIFF with compression {_name(page.compression)}; use LZW, Deflate or JPEG"
        )
    if not isinstance(bits, int) or page.dtype is None:
        raise unsupported(f"TIFF with samples of {bits} bits (sample format {form})")
    is_picture = form == _UINT and bits <= 16
    if not is_picture and not (is_mask and page.dtype.kind in "iuf"):
        words = {_UINT: "unsigned", _INT: "signed", _FLOAT: "float"}
        raise unsupported(
            f"TIFF: {bits}-bit {words.get(int(form), f'format {form}')} samples have no standard "
            "range; store 8 or 16 bits, unsigned"
        )
    space, count = _SPACES[page.photometric]
    if samples < count:
        raise damaged("TIFF", f"its tags say {samples} samples of {space}, which needs {count}")
    if space == "grey" and samples > 2:
        raise unsupported(f"TIFF: grey with {samples - 1} other samples a pixel; store grey or RGB")
    if page.extrasamples[:1] == (_ASSOCIATED,) and page.photometric not in (1, 2):
        raise unsupported(
            f"TIFF: {_name(page.photometric)} multiplied by an opacity; store it without, or RGB"
        )
    if page.compression == _JPEG and bits != 8:
        raise unsupported(f"TIFF: JPEG with {bits} bits a sample; use LZW or Deflate")
    if page.imagedepth != 1:
        raise unsupported(f"TIFF: a volume of {page.imagedepth} pictures")
    check_size(width, height, max_pixels, samples * page.dtype.itemsize)
    if page.is_tiled:
        tile = page.tilewidth * page.tilelength * page.tiledepth
        most = (width + 2**12) * (height + 2**12)  # a tile may be larger than a small picture
        if not 0 < tile <= most:
            raise damaged("TIFF", f"tiles of {page.tilewidth}x{page.tilelength} pixels")


def _assemble(page: TiffPage, data: bytes) -> Array:
    """Return all strips or tiles as one picture (H, W, samples)."""
    assert page.dtype is not None
    planes, _, height, width, samples = page.shaped
    picture = np.empty((planes, height, width, samples), page.dtype.newbyteorder("="))
    places = list(_places(page, data))
    if _is_plain(page):  # libtiff unpacks LZW three times as fast
        imagecodecs.tiff_decode(data, out=picture.reshape(page.shape))
    else:
        missing = planes * height * width
        for index, start, count in places:
            part, (plane, _, top, left, _) = _decode(page, data[start : start + count], index)
            part = part[0, : height - top, : width - left]
            picture[plane, top : top + part.shape[0], left : left + part.shape[1]] = part
            missing -= part.shape[0] * part.shape[1]
        if missing:
            raise damaged("TIFF", "strips or tiles are missing")
    if picture.dtype == np.bool_:
        picture = picture.view(np.uint8)
    if samples == 1:
        return np.moveaxis(picture[..., 0], 0, -1)  # planes become samples
    whole: Array = picture[0]
    return whole


def _is_plain(page: TiffPage) -> bool:
    return (
        page.compression == _LZW
        and page.photometric in (1, 2)
        and (page.bitspersample, page.planarconfig, page.fillorder) == (8, 1, 1)
        and page.samplesperpixel == _SPACES[page.photometric][1]
    )


def _decode(page: TiffPage, data: bytes, index: int) -> tuple[Array, tuple[int, ...]]:
    """Return a strip or tile (1, H, W, samples), and its place."""
    if page.compression != _JPEG:
        part, place, _ = page.decode(data, index)
        assert part is not None
        return part, place
    _, place, shape = page.decode(None, index)
    tables = page.jpegtables
    if tables is not None:
        data = tables.removesuffix(b"\xff\xd9") + data[2:]
    height, width = jpeg.size_of(data)
    if height > shape[1] or width > shape[2]:
        raise damaged("TIFF", f"a JPEG of {width}x{height} in a tile of {shape[2]}x{shape[1]}")
    return jpeg.read_part(data).permute(1, 2, 0).numpy()[None], place


def _places(page: TiffPage, data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield number, offset and size of each strip or tile."""
    wanted = prod(page.chunked)
    offsets, counts = page.dataoffsets[:wanted], page.databytecounts[:wanted]
    if not len(offsets) == len(counts) == wanted:
        found = min(len(offsets), len(counts))
        raise damaged("TIFF", f"it has {found} of {wanted} strips or tiles")
    for index, (start, count) in enumerate(zip(offsets, counts, strict=True)):
        if count < 1 or not 0 < start < len(data):
            raise damaged("TIFF", f"strip or tile {index} is not in the file")
        yield index, start, count


def _palette(page: TiffPage) -> Array:
    """Return the palette with 16-bit values; some writers store 8-bit ones."""
    colours = page.colormap
    if colours is None or colours.ndim != 2 or colours.shape[1] < 2**page.bitspersample:
        raise damaged("TIFF", "its palette is missing or too short")
    return colours * 257 if colours.max() <= 255 else colours


def _to_rgb(samples: Samples, bits: int | None) -> Array:
    """Map samples to RGB (H, W, 3)."""
    values, space = samples.values, samples.space
    if samples.colours is not None:
        return looked_up((samples.colours >> 8).astype(np.uint8).T, values[..., 0])
    bits = bits if samples.bits == 16 else None
    level = eight_bits(samples.bits, bits, samples.is_inverted, cut=space != "grey")
    if values.dtype != np.uint8 or samples.bits != 8 or samples.is_inverted:
        values = looked_up(level, values)
    if samples.alpha is not None:
        opacity = looked_up(eight_bits(samples.bits, cut=space != "grey"), samples.alpha)
        values = unmultiplied(values, opacity)
    if space == "grey":
        return three_channels(values[..., 0])
    if space == "RGB":
        return values
    return np.asarray(Image.fromarray(np.ascontiguousarray(values), mode=space).convert("RGB"))


def _name(code: int) -> str:
    return getattr(code, "name", str(code))
