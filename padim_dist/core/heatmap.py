"""The anomaly map of patch distances; its maximum is the image score (section III-C).

Bicubic up-sampling followed by a Gaussian filter is linear and separable, so both
together are one matrix per axis: map = A_y M A_x^T.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.geometry import Grid


def upsample_matrix(patches: int, pixels: int) -> Tensor:
    """Return the matrix (pixels, patches) of bicubic up-sampling of one axis, float64."""
    identity = torch.eye(patches, dtype=torch.float64)[None, None]
    return functional.interpolate(identity, size=(pixels, patches), mode="bicubic")[0, 0]


def smoothing_matrix(pixels: int, sigma: float) -> Tensor:
    """Return the matrix (pixels, pixels) of a Gaussian filter of one axis, float64.

    The kernel ends at 4 sigma and edges are mirrored (d c b a | a b c d | d c b a), as in
    the usual implementations of the paper. `sigma` is in pixels; 0 means no smoothing.
    """
    matrix = torch.zeros(pixels, pixels, dtype=torch.float64)
    if sigma == 0:
        return matrix.fill_diagonal_(1.0)
    radius = int(4.0 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    rows, period = torch.arange(pixels), 2 * pixels
    for offset, weight in zip(offsets.tolist(), kernel.tolist(), strict=True):
        mirrored = (rows + offset) % period
        columns = torch.where(mirrored < pixels, mirrored, period - 1 - mirrored)
        matrix[rows, columns] += weight
    return matrix


@dataclass(frozen=True)
class AnomalyMap:
    """The linear operator from patch distances to the full-size anomaly map.

    Attributes
    ----------
    rows, columns : Tensor
        A_y, shape (H, h), and A_x, shape (W, w), float32.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    @lru_cache(maxsize=4)
    def build(
        cls, grid: Grid, size: Grid, sigma: float, device: torch.device | str = "cpu"
    ) -> AnomalyMap:
        """Build for a patch grid (h, w), a map size (H, W) and sigma in pixels; cached."""
        rows, columns = (
            (smoothing_matrix(pixels, sigma) @ upsample_matrix(patches, pixels)).float().to(device)
            for patches, pixels in zip(grid, size, strict=True)
        )
        return cls(rows, columns)

    def full(self, distances: Tensor) -> Tensor:
        """Return the anomaly maps (N, H, W) of patch distances (N, h, w)."""
        return self.rows @ distances @ self.columns.T


def find_peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image scores of anomaly maps (N, H, W) and their positions.

    Returns
    -------
    scores, peaks : Tensor
        Maximum of each map, (N,), and its (y, x) in pixels of the map, (N, 2), int64.
    """
    scores, flat = maps.flatten(1).max(dim=1)
    width = maps.shape[-1]
    return scores, torch.stack([flat // width, flat % width], dim=1)
