"""The exact multi-resolution Gaussian and its Mahalanobis distances.

Equation (1) of the paper gives each patch a dense d x d covariance. With the variables
ordered coarse to fine, all patches of a coarse cell share the leading blocks of its
Cholesky factor. So each level stores factors, and whitens, once per position. The
distances (equation 2) are the same numbers: see ``docs/mathematics.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from padim_dist.core.covariance import Covariance
from padim_dist.core.moments import Blocks, Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import ConfigError


@dataclass
class Gaussian:
    """Block Cholesky factors of the patches' covariances, float32.

    Attributes
    ----------
    mean : list of Tensor
        mean[a], shape (G_a, d_a).
    whiten : list of Tensor
        W[a], shape (G_a, d_a, d_a): inverse of the lower Cholesky factor of the
        covariance at level a given all coarser levels.
    lower : dict of (int, int) to Tensor
        L[a, b] for a < b, shape (G_b, r_ab * d_a, d_b): regression of level a on the
        whitened coarser level b.
    kept : Tensor
        Weight of the empirical covariance, shape (cells,): 1 without shrinkage.
    """

    mean: list[Tensor]
    whiten: list[Tensor]
    lower: Blocks
    kept: Tensor

    def to(self, device: torch.device) -> Gaussian:
        """Return the Gaussian on another device."""
        return Gaussian(
            mean=[array.to(device) for array in self.mean],
            whiten=[array.to(device) for array in self.whiten],
            lower={pair: array.to(device) for pair, array in self.lower.items()},
            kept=self.kept.to(device),
        )

    def kept_at(self, level: int) -> Tensor:
        """Return `kept` of each position of a level, shape (G_a, 1)."""
        positions = self.mean[level].shape[0]
        return self.kept.repeat_interleave(positions // self.kept.shape[0])[:, None]

    def whitened(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the whitened residuals z[a] (G_a, d_a, N) of level matrices x[a], same shapes."""
        whitened: dict[int, Tensor] = {}
        for a in reversed(range(len(self.mean))):
            residual = levels[a] - self.mean[a].unsqueeze(-1)
            for b, z in whitened.items():
                block = self.lower[a, b]
                residual.view(*block.shape[:2], -1).baddbmm_(block, z, alpha=-1.0)
            whitened[a] = torch.bmm(self.whiten[a], residual)
        return [whitened[a] for a in range(len(self.mean))]

    def distances(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the Mahalanobis distance of every patch (equation 2).

        From level matrices x[a] (G_a, d_a, N), float32; the distances are (G_0, N), float32.
        Both are in nested order.
        """
        return squared_lengths(self.whitened(levels)).sqrt_()


def squared_lengths(whitened: Sequence[Tensor]) -> Tensor:
    """Return the squared distances (G_0, N) of whitened residuals z[a] (G_a, d_a, N)."""
    return nested_squares(whitened)[0]


def nested_squares(whitened: Sequence[Tensor]) -> list[Tensor]:
    """Return the squared distances of each level together with all coarser ones.

    Parameters
    ----------
    whitened : sequence of Tensor
        Whitened residuals z[a] (G_a, d_a, N), finest level first.

    Returns
    -------
    list of Tensor
        Item a, (G_a, N), in nested order: squared Mahalanobis distances of the variables of the
        levels a, a + 1, ... alone. Item 0 has the squared distances of the patches.
    """
    *finer, squares = (z.square().sum(dim=1) for z in whitened)
    nested = [squares]
    for here in reversed(finer):
        here += nested[0].repeat_interleave(here.shape[0] // nested[0].shape[0], dim=0)
        nested.insert(0, here)
    return nested


def factorise(moments: Moments, covariance: Covariance) -> Gaussian:
    """Factorise the regularised covariances of moments, in float64.

    Parameters
    ----------
    moments : Moments
        Moments of at least 1 image; they may cover only a band of cells.
    covariance : Covariance
        Regularisation of the same cells.

    Returns
    -------
    Gaussian
        In float32, on the moments' device.

    Raises
    ------
    ConfigError
        If a covariance is not positive definite: too little regularisation for the
        number of images.
    """
    count = len(moments.mean)
    lower: Blocks = {}
    whiten: dict[int, Tensor] = {}
    for b in reversed(range(count)):
        d = moments.mean[b].shape[1]
        identity = torch.eye(d, dtype=torch.float64, device=moments.mean[b].device)
        schur = covariance.block(moments, b, b)
        for c in range(b + 1, count):
            block = lower[b, c].view(-1, d, lower[b, c].shape[-1])
            schur.baddbmm_(block, block.mT, alpha=-1.0)
        factor, failed = torch.linalg.cholesky_ex(schur)
        if bool(failed.any()):
            raise ConfigError(
                f"level {b}: {int((failed > 0).sum())} of {len(failed)} covariance matrices not "
                f"positive definite ({covariance.added}, n = {moments.count}); fit on more images, "
                "or raise model.epsilon (it applies with model.shrinkage: none)"
            )
        whiten[b] = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        for a in range(b):
            block = covariance.block(moments, a, b)
            for c in range(b + 1, count):
                fine = lower[a, c].view(block.shape[0], block.shape[1], -1)
                block.baddbmm_(fine, lower[b, c].view(block.shape[0], d, -1).mT, alpha=-1.0)
            lower[a, b] = torch.bmm(block, whiten[b].mT)
    return Gaussian(
        mean=[mean.float() for mean in moments.mean],
        whiten=[whiten[a].float() for a in range(count)],
        lower={pair: block.float() for pair, block in lower.items()},
        kept=covariance.kept.float(),
    )


@dataclass(frozen=True)
class DenseView:
    """The paper's dense mean and covariance of single patches, channels in the paper's order.

    Parameters
    ----------
    shape : PyramidShape
        Shape of the moments.
    count : int
        Number of images n.
    mean_arrays : sequence of arrays
        mean[a], (G_a, d_a): anything that indexes along axis 0, e.g. Zarr arrays.
    scatter_arrays : dict of (int, int) to arrays
        scatter[a, b], (G_b, r_ab * d_a, d_b).
    kept, diagonal : arrays
        Those of `Covariance`, (cells,).
    """

    shape: PyramidShape
    count: int
    mean_arrays: Sequence[Any]
    scatter_arrays: dict[tuple[int, int], Any]
    kept: Any
    diagonal: Any

    def mean(self, y: int, x: int) -> npt.NDArray[np.float64]:
        """Return the mean of patch (y, x), shape (d,)."""
        arrays = enumerate(self.mean_arrays)
        parts = [np.asarray(mean[self.shape.index(a, y, x)]) for a, mean in arrays]
        return np.concatenate(parts)[list(self.shape.paper_order)].astype(np.float64)

    def covariance(self, y: int, x: int) -> npt.NDArray[np.float64]:
        """Return the regularised covariance of patch (y, x), shape (d, d) (equation 1)."""
        shape = self.shape
        dense = np.empty((shape.depth, shape.depth))
        starts = np.concatenate([[0], np.cumsum(shape.channels)])
        for a, b in shape.pairs:
            place = shape.index(a, y, x) - shape.index(b, y, x) * shape.ratio(a, b)
            rows = slice(place * shape.channels[a], (place + 1) * shape.channels[a])
            block = np.asarray(self.scatter_arrays[a, b][shape.index(b, y, x)])[rows]
            fine, coarse = slice(starts[a], starts[a + 1]), slice(starts[b], starts[b + 1])
            dense[fine, coarse] = block
            dense[coarse, fine] = block.T
        cell = shape.index(shape.levels - 1, y, x)
        dense *= float(self.kept[cell]) / max(self.count - 1, 1)
        dense += float(self.diagonal[cell]) * np.eye(shape.depth)
        order = list(shape.paper_order)
        return dense[np.ix_(order, order)]
