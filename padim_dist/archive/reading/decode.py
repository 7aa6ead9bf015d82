"""Decoding image files: JPEG, PNG, TIFF, WebP and BMP to RGB, and masks to true and false."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
from torch import Tensor

from padim_dist.archive.reading.formats import jpeg
from padim_dist.archive.reading.formats.captured import captured_at, time_of_exif
from padim_dist.archive.reading.formats.forms import form_of
from padim_dist.archive.reading.formats.jpeg_head import JpegHead, find_head
from padim_dist.archive.reading.formats.jpeg_reduced import read_reduced
from padim_dist.archive.reading.formats.kinds import Kind, kind_of
from padim_dist.archive.reading.formats.pillow import read_mask, read_pillow
from padim_dist.archive.reading.formats.problems import check_size, named
from padim_dist.archive.reading.formats.tiff import read_tiff, read_tiff_mask
from padim_dist.core.geometry import Grid
from padim_dist.core.pictures.forms import Form


@dataclass(frozen=True)
class Decoded:
    """A picture, and what its file says of it.

    Attributes
    ----------
    pixels : Tensor
        uint8, shape (3, H, W); see `decode`.
    height, width : int
        Its size; that of `pixels` may be smaller.
    form : Form or None
        Its size, bits and colour; None if the header is damaged.
    captured_at : datetime or None
        When it was taken, by its EXIF data; UTC.
    """

    pixels: Tensor
    height: int
    width: int
    form: Form | None
    captured_at: datetime | None


def decode(data: bytes, max_pixels: int, bits: int | None = None) -> Tensor:
    """Decode an image to RGB.

    JPEG, PNG, TIFF, WebP and BMP, whatever the name says. Palettes are looked up. Grey becomes
    three equal channels. Other numbers of bits become 8. Alpha is dropped. The EXIF orientation is
    applied. Only the first frame is decoded. Damaged metadata do not matter.

    Parameters
    ----------
    data : bytes
        The file.
    max_pixels : int
        Maximum pixels; larger images are refused by their header.
    bits : int, optional
        Bits of a sample that the camera delivers in files of 16 bits: 2^bits - 1 becomes white.

    Returns
    -------
    Tensor
        uint8, shape (3, H, W).

    Raises
    ------
    ImageError
        With the status ``unreadable`` or ``too_large``, and the reason: not an image, unsupported
        or damaged.
    """
    kind = kind_of(data)
    return _pixels(data, kind, max_pixels, bits, find_head(data) if kind == "JPEG" else None)


def decode_for(
    data: bytes, max_pixels: int, bits: int | None = None, least: Grid | None = None
) -> Decoded:
    """Decode an image as `decode` does, with its form and its time; a header is read once.

    With `least`, a height and width, JPEG files are decoded at a reduced size of at least so many
    pixels: see `read_reduced`.
    """
    kind = kind_of(data)
    head = find_head(data) if kind == "JPEG" else None
    if head is None:
        pixels = _pixels(data, kind, max_pixels, bits, None)
        height, width = pixels.shape[1:]
        form = form_of(data, width, height)
        return Decoded(pixels, height, width, form, captured_at(data))
    check_size(head.width, head.height, max_pixels)
    reduced = read_reduced(data, head, least) if least else None
    pixels = _pixels(data, kind, max_pixels, bits, head) if reduced is None else reduced
    height, width = pixels.shape[1:] if reduced is None else head.upright_size
    form = Form(width, height, bits=8, grey=head.components == 1)
    return Decoded(pixels, height, width, form, time_of_exif(head.exif))


def _pixels(
    data: bytes, kind: Kind, max_pixels: int, bits: int | None, head: JpegHead | None
) -> Tensor:
    with named(kind):
        if kind == "JPEG":
            return jpeg.read_jpeg(data, max_pixels, head)
        if kind == "TIFF":
            pixels = read_tiff(data, max_pixels, bits)
        else:
            pixels = read_pillow(data, kind, max_pixels, bits)
    return torch.from_numpy(np.require(pixels, requirements=("C", "W"))).permute(2, 0, 1)


def size_if_plain(data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """Return width and height of a JPEG file that a GPU may decode, None of any other file.

    Raises
    ------
    ImageError
        See `decode`.
    """
    if kind_of(data) != "JPEG":
        return None
    with named("JPEG"):
        image = jpeg.open_jpeg(data, max_pixels)
        return image.size if jpeg.is_plain(image, data) else None


def decode_mask(data: bytes, max_pixels: int) -> Tensor:
    """Decode a ground-truth mask: bool, shape (H, W), true where any channel is not zero."""
    kind = kind_of(data)
    with named(kind):
        if kind == "TIFF":
            values = read_tiff_mask(data, max_pixels)
        else:
            values = read_mask(data, kind, max_pixels)
    return torch.from_numpy((values != 0).reshape(*values.shape[:2], -1).any(axis=-1))
