"""Regularised covariances from moments: epsilon or shrinkage.

The paper adds epsilon to the diagonal (equation 1). Shrinkage mixes in a multiple of the
identity instead. Its weight is the oracle-approximating one (OAS: Chen, Wiesel, Eldar and
Hero, 2010), which needs only the moments. There is one weight for each coarsest cell, so
the patches of a cell still share their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from padim_dist.core.moments import Moments

Shrinkage = Literal["none", "oas"]


@dataclass(frozen=True)
class Covariance:
    """The regularisation: ``kept * scatter / (n - 1) + diagonal * identity``.

    Attributes
    ----------
    kept, diagonal : Tensor
        Weight of the empirical covariance and summand of the diagonal, (cells,), float64.
    added : str
        Name of the regularisation, for messages.
    """

    kept: Tensor
    diagonal: Tensor
    added: str

    @classmethod
    def of(cls, moments: Moments, epsilon: float, shrinkage: Shrinkage = "none") -> Covariance:
        """Return the regularisation of moments, which may cover only a band of cells."""
        coarsest = moments.mean[-1]
        ones = torch.ones(len(coarsest), dtype=torch.float64, device=coarsest.device)
        if shrinkage == "none":
            return cls(ones, ones * epsilon, f"epsilon {epsilon}")
        share, target = _oas(moments)
        # Images that are all alike in a cell have no variance to shrink to.
        diagonal = torch.where(target > 0, share * target, epsilon)
        return cls(1 - share, diagonal, "shrinkage oas")

    def block(self, moments: Moments, a: int, b: int) -> Tensor:
        """Return the covariances between levels a <= b: (G_b, r_ab * d_a, d_b), float64."""
        scatter = moments.scatter[a, b]
        covariance = scatter * _per_row(self.kept / max(moments.count - 1, 1), scatter)
        if a == b:
            covariance.diagonal(dim1=1, dim2=2).add_(_per_row(self.diagonal, scatter).squeeze(-1))
        return covariance


def traces(moments: Moments) -> tuple[Tensor, Tensor]:
    """Return the mean traces of a cell's empirical covariances and of their squares.

    Returns
    -------
    trace, square : Tensor
        Means over the patches of each coarsest cell, shape (cells,), float64.
    """
    cells = moments.mean[-1].shape[0]
    scale = 1.0 / max(moments.count - 1, 1)
    trace = torch.zeros(cells, dtype=torch.float64, device=moments.mean[-1].device)
    square = torch.zeros_like(trace)
    for (a, b), scatter in moments.scatter.items():
        # Every position of the finer level covers the same number of patches.
        fine = moments.mean[a].shape[0] // cells
        squares = scatter.square().view(cells, -1).sum(dim=1) / fine * scale**2
        square += squares if a == b else 2 * squares
        if a == b:
            trace += scatter.diagonal(dim1=1, dim2=2).reshape(cells, -1).sum(dim=1) / fine * scale
    return trace, square


def _oas(moments: Moments) -> tuple[Tensor, Tensor]:
    """Return the weight and the variance of the shrinkage target, each (cells,)."""
    n, d = moments.count, sum(mean.shape[1] for mean in moments.mean)
    trace, square = traces(moments)
    numerator = (1 - 2 / d) * square + trace.square()
    denominator = (n + 1 - 2 / d) * (square - trace.square() / d)
    share = numerator / denominator.clamp(min=torch.finfo(torch.float64).tiny)
    return share.clamp(max=1.0), trace / d


def _per_row(values: Tensor, block: Tensor) -> Tensor:
    """Repeat values of cells to (G_b, 1, 1), for products with a block (G_b, ...)."""
    return values.repeat_interleave(block.shape[0] // values.shape[0])[:, None, None]
