"""Resizing and cropping images and masks to the trunk's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize as resize_pixels

from padim_dist.core.geometry import InputGeometry


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
    resized = resize_pixels(
        pixels, list(geometry.resize), interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return _crop(resized, geometry).permute(1, 2, 0).contiguous().permute(2, 0, 1)


def together(pixels: Sequence[Tensor]) -> Tensor:
    """Stack images (3, H, W) of `prepare` to a batch (N, 3, H, W), also channels last in memory."""
    return torch.stack([image.permute(1, 2, 0) for image in pixels]).permute(0, 3, 1, 2)


def prepare_mask(mask: Tensor, geometry: InputGeometry) -> Tensor:
    """Resize a bool mask (H, W) by nearest pixel and crop it like an image."""
    pixels = functional.interpolate(
        mask[None, None].to(torch.uint8), size=geometry.resize, mode="nearest-exact"
    )
    return _crop(pixels[0, 0].bool(), geometry).contiguous()


def _crop(image: Tensor, geometry: InputGeometry) -> Tensor:
    (top, left), (height, width) = geometry.offset, geometry.crop
    return image[..., top : top + height, left : left + width]
