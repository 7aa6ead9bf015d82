"""Quality of a fit: how well the images determine its covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from padim_dist.core.covariance import Covariance
from padim_dist.core.moments import Moments

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """Quality of the fit of a group.

    Attributes
    ----------
    images, depth : int
        Images n of the fit and channels d: with n <= d empirical covariances are singular.
    regularised : array
        Share of each patch's variance added by epsilon or shrinkage, (h, w).
    condition : array
        Condition number of the covariance at one patch of each coarsest cell, (h', w').

    Both are NaN outside the region of interest.
    """

    images: int
    depth: int
    regularised: Map
    condition: Map

    def warnings(self) -> list[str]:
        """Return a message for each problem of the fit; empty for a good fit."""
        found = []
        if self.images <= self.depth:
            found.append(
                f"{self.images} image{'s' * (self.images != 1)} for {self.depth} channels: too "
                "few, the covariances are singular without regularisation. Fit on more images, or "
                "lower model.channels"
            )
        share = float(np.nanmedian(self.regularised))
        if share > 0.9:
            found.append(
                f"{share:.0%} of the variance (median of the patches) is added by epsilon or "
                "shrinkage: distances depend mainly on it. Fit on more images, or lower "
                "model.epsilon"
            )
        return found


def regularised_share(moments: Moments, covariance: Covariance) -> Tensor:
    """Return the regularised share of each patch's variance, (G_0,), in nested order."""
    depth = sum(mean.shape[1] for mean in moments.mean)
    patches = moments.mean[0].shape[0]
    variance = torch.zeros(patches, dtype=torch.float64, device=moments.mean[0].device)
    for a in range(len(moments.mean)):
        trace = covariance.block(moments, a, a).diagonal(dim1=1, dim2=2).sum(dim=1)
        variance += trace.repeat_interleave(patches // len(trace))
    added = covariance.diagonal.repeat_interleave(patches // len(covariance.diagonal))
    return depth * added / variance


def condition_numbers(moments: Moments, covariance: Covariance) -> Tensor:
    """Return the condition number at the first patch of each cell, (cells,)."""
    channels = [mean.shape[1] for mean in moments.mean]
    cells, depth = moments.mean[-1].shape[0], sum(channels)
    starts = [0, *np.cumsum(channels).tolist()]
    dense = moments.mean[-1].new_empty((cells, depth, depth))  # levels fine to coarse
    for a, b in moments.scatter:
        block = covariance.block(moments, a, b)
        # The first position of level b in each cell, and the first of level a in that.
        first = block[:: block.shape[0] // cells, : channels[a]]
        dense[:, starts[a] : starts[a + 1], starts[b] : starts[b + 1]] = first
        dense[:, starts[b] : starts[b + 1], starts[a] : starts[a + 1]] = first.mT
    eigenvalues = torch.linalg.eigvalsh(dense)
    conditions: Tensor = eigenvalues[:, -1] / eigenvalues[:, 0]
    return conditions
