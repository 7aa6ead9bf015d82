"""Resizing, aligning and cropping images and masks to the trunk's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.align.motion import Alignment, Motion
from padim_dist.core.align.reference import grey
from padim_dist.core.align.search import Aligner
from padim_dist.core.align.warp import warp, warp_mask
from padim_dist.core.geometry import Grid, InputGeometry


def prepare(pixels: Tensor, geometry: InputGeometry) -> Tensor:
    """Resize (bicubic, antialiased, in uint8; within a grey level of Pillow) and crop.

    Parameters
    ----------
    pixels : Tensor
        uint8, shape (3, H, W).
    geometry : InputGeometry
        Size after the resize, and of the centre crop.

    Returns
    -------
    Tensor
        uint8, shape (3, crop height, crop width), channels last in memory, as the trunk needs it.
    """
    return _channels_last(_crop(_resize(pixels, geometry), geometry))


def prepare_aligned(
    pixels: Tensor, geometry: InputGeometry, aligner: Aligner | None, size: Grid | None = None
) -> tuple[Tensor, Alignment | None]:
    """Resize an image, find how it lies, and warp and crop it so that it lies as the reference.

    Without an aligner, and if it cannot be aligned, it is prepared as by `prepare`. Parameters as
    there; `size` is the height and width of the picture if it was decoded at a reduced size.

    Returns
    -------
    pixels, alignment : Tensor, Alignment or None
        As of `prepare`; how the image lies, None without an aligner.
    """
    if aligner is None:
        return prepare(pixels, geometry), None
    resized, size = _resize(pixels, geometry), size or (pixels.shape[1], pixels.shape[2])
    levels = grey(resized, aligner.reference.grid)
    found = aligner.find(levels, size, geometry.resize)
    if found.motion is None:
        return _channels_last(_crop(resized, geometry)), found
    return _channels_last(warp(resized, geometry, size, found.motion)), found


def together(pixels: Sequence[Tensor]) -> Tensor:
    """Stack images (3, H, W) of `prepare` to a batch (N, 3, H, W), also channels last in memory."""
    return torch.stack([image.permute(1, 2, 0) for image in pixels]).permute(0, 3, 1, 2)


def prepare_mask(
    mask: Tensor,
    geometry: InputGeometry,
    size: tuple[int, int] | None = None,
    motion: Motion | None = None,
) -> Tensor:
    """Resize a bool mask (H, W) by nearest pixel and crop it like an image.

    Parameters
    ----------
    mask, geometry : Tensor, InputGeometry
        The mask, at any size; the resize and crop of its image.
    size, motion : (int, int), Motion, optional
        Height and width of the image, and how it lies, if it was aligned.
    """
    if size and motion:
        return warp_mask(mask, geometry, size, motion)
    pixels = functional.interpolate(
        mask[None, None].to(torch.uint8), size=geometry.resize, mode="nearest-exact"
    )
    return _crop(pixels[0, 0].bool(), geometry).contiguous()


def _resize(pixels: Tensor, geometry: InputGeometry) -> Tensor:
    if pixels.shape[1:] == geometry.resize:
        return pixels
    # PyTorch's strides of one image with channels last are ambiguous: it would be copied twice.
    one = pixels.as_strided((1, *pixels.shape), (pixels.numel(), *pixels.stride()))
    return functional.interpolate(one, size=geometry.resize, mode="bicubic", antialias=True)[0]


def _channels_last(image: Tensor) -> Tensor:
    """Return an image (3, H, W) with channels last in memory."""
    return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def _crop(image: Tensor, geometry: InputGeometry) -> Tensor:
    if geometry.crop == geometry.resize:
        return image
    (top, left), (height, width) = geometry.offset, geometry.crop
    return image[..., top : top + height, left : left + width]
