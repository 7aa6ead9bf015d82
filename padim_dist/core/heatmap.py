"""The anomaly map of patch distances; its maximum is the image score (section III-C).

Bicubic up-sampling followed by a Gaussian filter is linear and separable, so both
together are one matrix per axis: map = A_y M A_x^T.

A region of interest leaves patches out. A pixel inside is then the
weighted mean of the patches inside: the weights that are left are divided by their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.geometry import Grid
from padim_dist.core.pyramid import PyramidShape


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


_LEAST_WEIGHT = 0.05
"""Least sum of the weights of a pixel that is divided by it: bicubic weights may be negative."""


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

    def full(self, distances: Tensor, mask: npt.NDArray[np.bool_] | None = None) -> Tensor:
        """Return the anomaly maps (N, H, W) of patch distances (N, h, w).

        Parameters
        ----------
        distances : Tensor
            Of each patch. One that is NaN makes its whole map NaN: the model is broken.
        mask : array, optional
            Patches that are judged, bool (h, w): `PyramidShape.mask`. Pixels of the others are NaN.
        """
        if mask is None:
            return self._apply(distances)
        judged = torch.tensor(mask, device=distances.device)
        return self._within(distances, judged.expand_as(distances))

    def full_of_kept(self, distances: Tensor) -> Tensor:
        """Return the anomaly maps of kept heatmaps, in which patches that are not judged are NaN.

        A run keeps no distances that are not finite.
        """
        judged = ~distances.isnan()
        return self._apply(distances) if bool(judged.all()) else self._within(distances, judged)

    def _within(self, distances: Tensor, judged: Tensor) -> Tensor:
        maps = self._apply(distances.masked_fill(~judged, 0.0))
        weights = self._apply(judged.to(maps.dtype)).clamp_(min=_LEAST_WEIGHT)
        # Maps of whole images keep their bits: the weights there are 1 up to rounding.
        maps /= weights.masked_fill_(judged.all(dim=(1, 2))[:, None, None], 1.0)
        (height, width), (h, w) = maps.shape[1:], distances.shape[1:]
        y, x = (
            torch.arange(pixels, device=maps.device) * patches // pixels
            for pixels, patches in ((height, h), (width, w))
        )
        return maps.masked_fill_(~judged[:, y][:, :, x], torch.nan)

    def _apply(self, patches: Tensor) -> Tensor:
        return self.rows @ patches @ self.columns.T

    def weights(self, places: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weight (N, h, w) of each patch in pixels (y, x) of the map, (N, 2), int64.

        A pixel of the map is the sum of the patch distances times these weights, whose sum is 1.
        Patches outside of `mask`, bool (h, w), are not judged and have no weight.
        """
        rows, columns = self.rows[places[:, 0]], self.columns[places[:, 1]]
        weights = rows.unsqueeze(2) * columns.unsqueeze(1)
        if mask is None:
            return weights
        weights *= mask
        return weights / weights.sum(dim=(1, 2), keepdim=True).clamp(min=_LEAST_WEIGHT)


def find_peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image scores of anomaly maps (N, H, W) and their positions.

    Returns
    -------
    scores, peaks : Tensor
        Maximum of each map, (N,), and its (y, x) in pixels of the map, (N, 2), int64. Pixels that
        are NaN do not count; a map of nothing else has the score NaN.
    """
    scores, flat = maps.flatten(1).max(dim=1)
    if bool(scores.isnan().any()):
        unknown = maps.isnan()
        scores, flat = maps.masked_fill(unknown, -torch.inf).flatten(1).max(dim=1)
        scores = scores.masked_fill(unknown.all(dim=(1, 2)), torch.nan)
    width = maps.shape[-1]
    return scores, torch.stack([flat // width, flat % width], dim=1)


def divide_scores(
    squares: Sequence[Tensor], shape: PyramidShape, anomaly_map: AnomalyMap, peaks: Tensor
) -> Tensor:
    """Divide image scores among the levels of the pyramid.

    The squared distance of a patch is a sum over the levels: the coarsest level's own, and what
    each finer level adds to it. The score is the anomaly map at its peak, which is a weighted sum
    of distances of the patches around it, ``sum w M``. With ``M = M^2 / M`` the part of level a is
    ``sum w M_a^2 / M``: each patch's distance is divided in proportion to its squares. The parts
    of an image add up to its score.

    A finer level counts only with what the coarser ones do not predict.

    Parameters
    ----------
    squares : sequence of Tensor
        Squared distances (G_a, N) of each level with all coarser ones, as of `nested_squares`. For
        an image in the model: those of a model without it.
    shape, anomaly_map : PyramidShape, AnomalyMap
        Nested order of the patches, and the operator that made the maps.
    peaks : Tensor
        Pixels (y, x) of the maps, (N, 2), int64.

    Returns
    -------
    Tensor
        (N, L), in units of the score, finest level first.
    """
    mask = None if shape.mask is None else torch.tensor(shape.mask, device=peaks.device)
    (weights,) = shape.nest([anomaly_map.weights(peaks, mask).unsqueeze(1)])
    shares = weights.squeeze(1) / squares[0].sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    # Positions of a coarse cell are neighbours in nested order.
    sums = [
        (shares.view(len(own), -1, own.shape[-1]).sum(dim=1) * own).sum(dim=0) for own in squares
    ]
    coarser = [*sums[1:], torch.zeros_like(sums[0])]
    return torch.stack([own - rest for own, rest in zip(sums, coarser, strict=True)], dim=1)


def fine_middle_coarse(parts: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the parts of the finest level, of those between, and of the coarsest one.

    None where the pyramid has no such level; a pyramid of one level has nothing to divide.

    Examples
    --------
    >>> fine_middle_coarse([3.0, 2.0, 1.0]), fine_middle_coarse([3.0, 1.0]), fine_middle_coarse([3])
    ((3.0, 2.0, 1.0), (3.0, None, 1.0), (None, None, None))
    """
    if len(parts) < 2:
        return None, None, None
    fine, *between, coarse = parts
    return fine, sum(between) if between else None, coarse
