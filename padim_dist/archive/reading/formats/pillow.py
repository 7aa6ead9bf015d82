"""PNG, WebP and BMP: Pillow decodes.

torchvision's PNG decoder is not used: damaged files crash the process (docs/architecture.md).
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from padim_dist.archive.reading.formats.kinds import Kind
from padim_dist.archive.reading.formats.levels import eight_bits, looked_up, three_channels
from padim_dist.archive.reading.formats.pieces import png_exif, png_pixels, webp_exif, webp_pixels
from padim_dist.archive.reading.formats.problems import DAMAGE, check_size
from padim_dist.archive.reading.formats.upright import orientation_of, turned
from padim_dist.errors import ImageError

# `check_size` checks every image; Pillow's own check has another limit.
Image.MAX_IMAGE_PIXELS = None
# Warnings about damaged tags would fill the logs; the image's row has the reason of a failure.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ONLY_PIXELS = {"PNG": png_pixels, "WebP": webp_pixels}
_EXIF = {"PNG": png_exif, "WebP": webp_exif}


def read_pillow(data: bytes, kind: Kind, max_pixels: int, bits: int | None) -> npt.NDArray[Any]:
    """Decode a file to RGB: uint8, shape (H, W, 3), upright."""
    image = load(data, kind, max_pixels)
    if bits is not None and _has_wide_colours(data, kind):
        rgb = _wide_colours(data, bits)
    elif image.mode.startswith("I"):
        rgb = three_channels(looked_up(eight_bits(16, bits), np.asarray(image)))
    else:
        if "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns if a palette is converted directly
        rgb = np.array(image.convert("RGB"))
    return turned(rgb, _orientation(data, kind))


def _has_wide_colours(data: bytes, kind: Kind) -> bool:
    """Return whether Pillow keeps only 8 of 16 bits: in PNG files with colour or alpha."""
    return kind == "PNG" and data[24] == 16 and data[25] in (2, 4, 6)


def _wide_colours(data: bytes, bits: int) -> npt.NDArray[Any]:
    """Decode such a file with all its bits; Pillow has read it without an error before."""
    samples = looked_up(eight_bits(16, bits), imagecodecs.png_decode(png_pixels(data)))
    return three_channels(samples[..., 0]) if data[25] == 4 else samples[..., :3]


def read_mask(data: bytes, kind: Kind, max_pixels: int) -> npt.NDArray[Any]:
    """Decode a file for its zeros: shape (H, W) or (H, W, channels), upright, without alpha."""
    image = load(data, kind, max_pixels)
    if image.mode not in ("1", "L", "F") and not image.mode.startswith("I"):
        rgba = image.convert("RGBA")  # looks palettes up
        return turned(np.asarray(rgba.convert("RGB")), _orientation(data, kind))
    return turned(np.asarray(image), _orientation(data, kind))


def load(data: bytes, kind: Kind, max_pixels: int) -> Image.Image:
    """Decode the first frame in its own mode; metadata that are damaged or huge are left out.

    Raises
    ------
    ImageError
        With the status ``unreadable`` or ``too_large``, and the reason.
    """
    try:
        return _load(data, kind, max_pixels)
    except DAMAGE as error:
        if isinstance(error, ImageError) and error.status == "too_large":
            raise
        if kind in _ONLY_PIXELS and (pixels := _ONLY_PIXELS[kind](data)) != data:
            return _load(pixels, kind, max_pixels)
        raise


def read_head(data: bytes, kind: Kind, max_pixels: int) -> tuple[int, int, int]:
    """Return width, height and EXIF orientation from the first bytes of a file."""
    try:
        image = _open(data, kind, max_pixels)
    except DAMAGE:
        if kind not in _ONLY_PIXELS:
            raise
        image = _open(_ONLY_PIXELS[kind](data), kind, max_pixels)
    return *image.size, _orientation(data, kind)


def is_grey(data: bytes) -> bool:
    """Return whether a BMP file has no colours: its palette, if it has one, is grey."""
    with Image.open(io.BytesIO(data), formats=("BMP",)) as image:
        return image.mode in ("1", "L")


def _open(data: bytes, kind: Kind, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=(kind.upper(),))
    except UnidentifiedImageError:
        raise ValueError("its header cannot be read") from None
    check_size(*image.size, max_pixels)
    return image


def _load(data: bytes, kind: Kind, max_pixels: int) -> Image.Image:
    image = _open(data, kind, max_pixels)
    image.seek(0)
    image.load()
    return image


def _orientation(data: bytes, kind: Kind) -> int:
    return orientation_of(_EXIF[kind](data)) if kind in _EXIF else 1
