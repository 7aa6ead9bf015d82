"""The picture that others are aligned with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.geometry import Grid

_LONGEST = 128
"""Longer side of the grid on which pictures are compared."""
_SHAPES = 0.02
"""Most difference of the ratios of sides of pictures that have the same shape."""
Levels = npt.NDArray[np.uint8]


def grid_of(resize: Grid) -> Grid:
    """Return height and width of the grid on which pictures of a resize are compared.

    Examples
    --------
    >>> grid_of((256, 256)), grid_of((256, 512)), grid_of((64, 64))
    ((128, 128), (64, 128), (64, 64))
    """
    scale = min(1.0, _LONGEST / max(resize))
    height, width = (max(8, round(side * scale)) for side in resize)
    return height, width


def grey(resized: Tensor, grid: Grid) -> Tensor:
    """Return a resized picture, uint8 (3, H, W), in grey on a grid: float32, 0 to 255."""
    levels = resized.to(torch.float32).mean(dim=0)
    return functional.adaptive_avg_pool2d(levels[None], grid)[0]


def same_shape(one: Grid, other: Grid) -> bool:
    """Return whether pictures (height, width) have sides in the same ratio.

    Examples
    --------
    >>> same_shape((480, 640), (960, 1280)), same_shape((480, 640), (512, 512))
    (True, False)
    """
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SHAPES


@dataclass(frozen=True)
class Reference:
    """A picture in grey, small, with the size of its original.

    Attributes
    ----------
    height, width : int
        Of the original.
    grid : (int, int)
        Height and width of the picture; see `grid_of`.
    levels : bytes
        uint8, row by row.
    """

    height: int
    width: int
    grid: Grid
    levels: bytes = field(repr=False)

    @classmethod
    def of(cls, levels: npt.NDArray[np.generic], size: Grid) -> Reference:
        """Return a reference: grey levels (height, width), 0 to 255; size of the original."""
        rounded = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        height, width = rounded.shape
        return cls(*size, (height, width), rounded.tobytes())

    @property
    def size(self) -> Grid:
        """Height and width of the original."""
        return self.height, self.width

    @property
    def pixels(self) -> Levels:
        """The picture: uint8, shape `grid`."""
        return np.frombuffer(self.levels, np.uint8).reshape(self.grid)

    @property
    def digest(self) -> str:
        """Content address."""
        content = hashlib.sha256(f"{self.size} {self.grid}\n".encode())
        content.update(self.levels)
        return content.hexdigest()[:16]
