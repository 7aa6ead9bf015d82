"""Why a file gives no pixels: not an image, unsupported, damaged, or too large."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from padim_dist.errors import ImageError

DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    SyntaxError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""Errors that libraries raise for damaged files; they do not check the types of all tags."""
_SAMPLE_BYTES = 8
"""Most bytes of a pixel: 16-bit RGBA."""


def unsupported(what: str) -> ImageError:
    """Return the error of a sound file in a form that is not read."""
    return ImageError("unreadable", f"unsupported: {what}")


def damaged(kind: str, why: object) -> ImageError:
    """Return the error of a file whose pixels are damaged."""
    return ImageError("unreadable", f"damaged {kind}: {why}")


def check_size(width: int, height: int, max_pixels: int, pixel_bytes: int = 0) -> None:
    """Refuse a picture that is too large, before memory is allocated for it.

    Raises
    ------
    ImageError
        With the status ``too_large``.
    """
    if width * height > max_pixels:
        raise ImageError(
            "too_large",
            f"{width}x{height} pixels are more than archive.max_pixels = {max_pixels}; raise it to "
            "read such pictures",
        )
    if width * height * pixel_bytes > _SAMPLE_BYTES * max_pixels:
        raise ImageError(
            "too_large",
            f"{width}x{height} pixels of {pixel_bytes} bytes are more than "
            f"{_SAMPLE_BYTES} x archive.max_pixels = {_SAMPLE_BYTES * max_pixels} bytes",
        )


@contextmanager
def named(kind: str) -> Iterator[None]:
    """Turn errors of libraries into the `ImageError` of a damaged file of this kind."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except DAMAGE as error:
        if "nsupported" in str(error):
            raise unsupported(f"{kind}: {error}") from None
        raise damaged(kind, error) from None
