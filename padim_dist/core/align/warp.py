"""Pictures and masks, turned and shifted so that they lie as the reference does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.align.motion import Motion
from padim_dist.core.geometry import Grid, InputGeometry


def warp(resized: Tensor, geometry: InputGeometry, size: Grid, motion: Motion) -> Tensor:
    """Return the part of a picture inside the crop, as the reference lies (bicubic).

    Beyond the edges of the picture its last pixels go on.

    Parameters
    ----------
    resized : Tensor
        uint8, shape (3, H, W): the resized picture.
    geometry, size : InputGeometry, (int, int)
        Its resize and crop; height and width of the original.
    motion : Motion
        How it lies.

    Returns
    -------
    Tensor
        uint8, shape (3, crop height, crop width).
    """
    warped = _sampled(resized.to(torch.float32), geometry, size, motion)
    return warped.round_().clamp_(0, 255).to(torch.uint8)


def warp_levels(levels: Tensor, resize: Grid, size: Grid, motion: Motion) -> Tensor:
    """Return a picture in grey on a smaller grid, float32 (h, w), as the reference lies.

    Parameters
    ----------
    levels : Tensor
        See `padim_dist.core.align.reference.grey`.
    resize, size : (int, int)
        Height and width of the resized picture, in whose pixels the motion is; of the original.
    motion : Motion
        How the picture lies.
    """
    height, width = levels.shape
    scaled = motion.scaled(height / resize[0], width / resize[1])
    geometry = InputGeometry((height, width), (height, width))
    return _sampled(levels[None], geometry, size, scaled)[0].clamp_(0, 255)


def warp_mask(mask: Tensor, geometry: InputGeometry, size: Grid, motion: Motion) -> Tensor:
    """Return a bool mask (H, W), of any size, as its picture is warped; nearest pixel."""
    ys, xs = _followed(geometry, size, motion)
    places = []
    inside = torch.ones_like(ys, dtype=torch.bool)
    for values, side, resized in zip((ys, xs), mask.shape, geometry.resize, strict=True):
        at = (values * (side / resized)).floor().long()
        inside &= (at >= 0) & (at < side)
        places.append(at.clamp(0, side - 1))
    return mask[places[0], places[1]] & inside


def _sampled(picture: Tensor, geometry: InputGeometry, size: Grid, motion: Motion) -> Tensor:
    """Return a picture, float32 (C, H, W), warped and cropped."""
    at = torch.empty(1, *geometry.crop, 2)  # x and y; -1 and 1 are the edges
    followed = zip(_followed(geometry, size, motion), geometry.resize, strict=True)
    for axis, (places, side) in enumerate(followed):
        torch.sub(places * (2 / side), 1, out=at[0, ..., 1 - axis])
    sampled: Tensor = functional.grid_sample(
        picture[None], at, "bicubic", "border", align_corners=False
    )
    return sampled[0]


def _followed(geometry: InputGeometry, size: Grid, motion: Motion) -> tuple[Tensor, Tensor]:
    """Return where the centre of each pixel of the crop lies in the resized picture, in pixels."""
    (a, b, c), (d, e, f) = motion.affine(geometry.resize, size)
    (top, left), (height, width) = geometry.offset, geometry.crop
    rows = torch.arange(height)[:, None] + (top + 0.5)
    columns = torch.arange(width)[None] + (left + 0.5)
    return a * rows + b * columns + c, d * rows + e * columns + f
