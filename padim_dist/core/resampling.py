"""The resize of the archive's images as matrices, for whatever device the pixels are on.

PyTorch resizes uint8 on a processor alone: in fixed point, first along the rows, then along
the columns, each time rounded to a grey level. The same sums of products are exact in
floating point where they stay below the mantissa, so a product of matrices gives the same
grey levels, bit for bit.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from padim_dist.core.geometry import InputGeometry

_MOST_BITS = 22
_WEIGHT_BITS = 15
_EXACT_BELOW = {torch.float32: 2**24, torch.float64: 2**53}


def cubic_weights(size: int, resized: int) -> tuple[Tensor, int]:
    """Weights of an antialiased bicubic resize of one axis, in fixed point.

    Parameters
    ----------
    size, resized : int
        Pixels before and after.

    Returns
    -------
    weights : Tensor
        Whole numbers, float64, shape (resized, size).
    bits : int
        They stand for so many bits after the point.
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
    while bits < _MOST_BITS and int(0.5 + most * 2 ** (bits + 1)) < 2**_WEIGHT_BITS:
        bits += 1
    weights *= 2.0**bits
    return (weights + 0.5 * weights.sign()).trunc(), bits


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Keys' kernel, with the slope that Pillow and PyTorch take where they antialias."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def resize_and_crop(pixels: Tensor, geometry: InputGeometry) -> Tensor:
    """Resize and crop images of one size.

    Parameters
    ----------
    pixels : Tensor
        uint8, shape (N, 3, H, W).
    geometry : InputGeometry
        Size after the resize, and of the centre crop.

    Returns
    -------
    Tensor
        uint8, shape (N, 3, crop height, crop width), on the same device.
    """
    # What is cut off need not be computed: each row and column is a sum of its own.
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
    """Weights of the rows from first to stop, in the shorter type that is exact, and the bits."""
    weights, bits = cubic_weights(size, resized)
    largest = 255 * float(weights.abs().sum(dim=1).max()) + 2**bits
    dtype = next(dtype for dtype, below in _EXACT_BELOW.items() if largest < below)
    return weights[first:stop].to(device, dtype), bits
