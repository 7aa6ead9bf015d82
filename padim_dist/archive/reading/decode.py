"""Decoding image files.

Pillow reads every header. torchvision decodes JPEG, twice as fast as Pillow; Pillow decodes all
other formats, and releases the GIL too. torchvision's PNG decoder is not used: damaged files crash
the process (see docs/architecture.md).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from padim_dist.errors import ImageError

# `open_image` checks the size of every image; Pillow's own check has another limit.
Image.MAX_IMAGE_PIXELS = None
# Warnings about damaged tags would fill the logs; the image's row has the reason of a failure.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION = 0x0112
# EXIF orientations, and the transposes that turn the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Errors that Pillow raises for damaged files; it does not check the types of tags.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
)


def decode(data: bytes, max_pixels: int) -> Tensor:
    """Decode an image to RGB.

    JPEG, PNG, TIFF, WebP and BMP. Palettes are looked up. Grey becomes three equal channels. 16
    bits become 8 (grey by rounding). Alpha is dropped. The EXIF orientation is applied. Only the
    first frame is decoded.

    Parameters
    ----------
    data : bytes
        The file.
    max_pixels : int
        Maximum pixels; larger images are refused by their header.

    Returns
    -------
    Tensor
        uint8, shape (3, H, W).

    Raises
    ------
    ImageError
        With the status ``unreadable`` or ``too_large``, and the reason.
    """
    image = open_image(data, max_pixels)
    if image.format in ("JPEG", "MPO"):
        buffer = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        with suppress(RuntimeError):  # Pillow tries, and has the better message
            rgb: Tensor = decode_jpeg(buffer, mode=ImageReadMode.RGB, apply_exif_orientation=True)
            return rgb
    try:
        pixels = np.array(_by_pillow(image))
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError("unreadable", f"damaged {image.format}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Return whether a GPU may decode an opened file: baseline colour JPEG, upright, complete."""
    try:
        return (
            image.format == "JPEG"
            and image.mode == "RGB"
            and "progressive" not in image.info
            and image.info.get("adobe_transform", 1) != 0
            and data.endswith(b"\xff\xd9")  # the end of the image
            and image.getexif().get(_ORIENTATION, 1) == 1
        )
    except _DAMAGE:
        return False


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header and check the size.

    Raises
    ------
    ImageError
        With the status ``unreadable`` or ``too_large``, and the reason.
    """
    if not data:
        raise ImageError("unreadable", "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "WEBP", "BMP"))
    except UnidentifiedImageError:
        raise ImageError(
            "unreadable", f"not a JPEG, PNG, TIFF, WebP or BMP image: it starts with {data[:12]!r}"
        ) from None
    except _DAMAGE as error:
        raise ImageError("unreadable", f"damaged header: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{width}x{height} pixels are more than archive.max_pixels = {max_pixels}",
        )
    return image


def decode_mask(data: bytes, max_pixels: int) -> Tensor:
    """Decode a ground-truth mask: bool, shape (H, W), true where any channel is not zero."""
    image = open_image(data, max_pixels)
    try:
        image.load()
        image = _turned(image)
        if image.mode not in ("1", "L", "F") and not image.mode.startswith("I"):
            image = image.convert("RGBA").convert("RGB")  # looks palettes up, drops alpha
        values = np.asarray(image)
    except _DAMAGE as error:
        raise ImageError("unreadable", f"damaged {image.format}: {error}") from None
    return torch.from_numpy((values != 0).reshape(*values.shape[:2], -1).any(axis=-1))


def _by_pillow(image: Image.Image) -> Image.Image:
    """Return the RGB picture, turned upright."""
    image.seek(0)
    image.load()
    if image.mode in ("I", "F"):
        raise ImageError(
            "unreadable",
            f"32-bit pixels (Pillow mode {image.mode}) have no standard range; store 8 or 16 bits",
        )
    image = _turned(image)
    if image.mode.startswith("I;16"):
        wide: npt.NDArray[np.uint32] = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns if a palette is converted directly
    return image.convert("RGB")


def _turned(image: Image.Image) -> Image.Image:
    """Return the picture upright. Pillow's own function fails on damaged EXIF tags."""
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)
