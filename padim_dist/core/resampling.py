"""Resize of images by matrix products, on any device.

PyTorch resizes uint8 only on a CPU. It works in fixed point, first within rows, then within
columns, and rounds to a grey level after each. The same sums are exact in floating point
while they fit its mantissa, so matrix products give the same grey levels, bit for bit.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from padim_dist.core.geometry import InputGeometry

_MAX_BITS = 22
_WEIGHT_BITS = 15


def cubic_weights(size: int, resized: int) -> tuple[Tensor, int]:
    """Return the weights of an antialiased bicubic resize of one axis, in fixed point.

    Parameters
    ----------
    size, resized : int
        Pixels before and after.

    Returns
    -------
    weights : Tensor
        Whole numbers, float64, shape (resized, size).
    bits : int
        Number of bits after the point: the weights stand for ``weights / 2**bits``.
    """
    scale = size / resized
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centres = scale * (torch.arange(resized, dtype=torch.float64) + 0.5)
    first = (centres - support + 0.5).trunc().clamp(min=0)
    stop = (centres + support + 0.5).trunc().clamp(max=size)
    at = torch.arange(size, dtype=torch.float64)
    weights = _cubic((at - centres[:, None] + 0.5) / stretch)
    weights *= (at >= first[:, None]) & (at < stop[:, None])
    weights /= weights.sum(dim=1, keepdim=True)
    most, bits = float(weights.max()), 0
    while bits < _MAX_BITS and int(0.5 + most * 2 ** (bits + 1)) < 2**_WEIGHT_BITS:
        bits += 1
    weights *= 2.0**bits
    return (weights + 0.5 * weights.sign()).trunc(), bits


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Return Keys' kernel, with the slope of Pillow's and PyTorch's antialiased resize."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def resize_and_crop(pixels: Tensor, geometry: InputGeometry) -> Tensor:
    """Resize and crop images of the same size.

    Parameters
    ----------
    pixels : Tensor
        uint8, shape (N, 3, H, W).
    geometry : InputGeometry
        Size after the resize and size of the centre crop.

    Returns
    -------
    Tensor
        uint8, shape (N, 3, crop height, crop width), on the same device.
    """
    # Only the rows and columns inside the crop are computed.
    for axis in (1, 0):
        first = geometry.offset[axis]
        stop = first + geometry.crop[axis]
        size, resized = pixels.shape[2 + axis], geometry.resize[axis]
        if size == resized:
            pixels = pixels.narrow(2 + axis, first, stop - first)
            continue
        weights, bits = _matrix(size, resized, first, stop, pixels.device)
        numbers = pixels.to(weights.dtype)
        sums = numbers @ weights.T if axis == 1 else weights @ numbers
        pixels = sums.mul_(2.0**-bits).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return pixels


@lru_cache(maxsize=64)
def _matrix(
    size: int, resized: int, first: int, stop: int, device: torch.device
) -> tuple[Tensor, int]:
    """Return weight rows [first, stop) in the shortest exact type, and their bits."""
    weights, bits = cubic_weights(size, resized)
    largest = 255 * float(weights.abs().sum(dim=1).max()) + 2**bits
    dtype = torch.float32 if largest < 2**24 else torch.float64
    return weights[first:stop].to(device, dtype), bits
