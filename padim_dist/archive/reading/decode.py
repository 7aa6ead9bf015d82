"""From the bytes of an image file to pixels.

Pillow reads the header of every file, cheaply. JPEG is decoded by torchvision, which is
twice as fast; all else by Pillow, which releases the GIL as well. torchvision's PNG
decoder is left alone: damaged files crash the process (see docs/architecture.md).
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from padim_dist.errors import ImageError

# The limit below is checked on every header; Pillow's own warns at another size.
Image.MAX_IMAGE_PIXELS = None
# What it says of damaged tags would fill the logs of workers; the image's row says what matters.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
_ORIENTATION = 0x0112
_END_OF_JPEG = b"\xff\xd9"
# From the EXIF orientation to what turns the picture the right way up.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises for damaged files: a tag of another type than it should be goes unchecked.
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

    JPEG, PNG, TIFF, WebP and BMP; palettes are looked up, grey becomes three equal
    channels, 16 bits become 8 (grey by rounding), alpha is left out, the EXIF orientation
    is applied, of several frames the first is taken.

    Parameters
    ----------
    data : bytes
        The file.
    max_pixels : int
        Larger images are refused from their header alone.

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
        try:
            return _by_torchvision(data)
        except RuntimeError:
            pass  # Pillow decides, and has the better message
    try:
        pixels = np.array(_by_pillow(image))
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError("unreadable", f"damaged {image.format}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Whether a file is for a GPU's decoder: baseline JPEG in colour, upright and complete.

    Parameters
    ----------
    image : Image
        Its header, from `open_image`.
    data : bytes
        The file.
    """
    try:
        return (
            image.format == "JPEG"
            and image.mode == "RGB"
            and "progressive" not in image.info
            and image.info.get("adobe_transform", 1) != 0
            and data.endswith(_END_OF_JPEG)
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
        image = Image.open(io.BytesIO(data), formats=FORMATS)
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
            image = image.convert("RGBA").convert("RGB")  # palettes looked up, alpha left out
        values = np.asarray(image)
    except _DAMAGE as error:
        raise ImageError("unreadable", f"damaged {image.format}: {error}") from None
    return torch.from_numpy((values != 0).reshape(*values.shape[:2], -1).any(axis=-1))


def _by_torchvision(data: bytes) -> Tensor:
    buffer = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    pixels: Tensor = decode_jpeg(buffer, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels


def _by_pillow(image: Image.Image) -> Image.Image:
    """RGB picture, turned the right way up."""
    image.seek(0)
    image.load()
    if image.mode in ("I", "F"):
        raise ImageError(
            "unreadable",
            f"32-bit pixels (Pillow mode {image.mode}) have no agreed range; store 8 or 16 bits",
        )
    image = _turned(image)
    if image.mode.startswith("I;16"):
        wide: npt.NDArray[np.uint32] = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way from a palette
    return image.convert("RGB")


def _turned(image: Image.Image) -> Image.Image:
    """The right way up. Pillow's own way writes the EXIF data anew, which damaged tags prevent."""
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)
