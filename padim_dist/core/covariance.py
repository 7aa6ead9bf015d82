"""From moments to covariances that can be inverted: by epsilon, or by shrinkage.

The paper adds epsilon to the diagonal (equation 1). The alternative here shrinks towards
a multiple of the identity by the share of the oracle-approximating estimator (OAS: Chen,
Wiesel, Eldar and Hero, 2010), which is like Ledoit and Wolf's but needs the moments
alone. One share for each coarsest cell: all patches in it keep sharing their blocks.
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
    """How moments become covariances: ``kept * scatter / (n - 1) + diagonal * identity``.

    Attributes
    ----------
    kept : Tensor
        Share of the empirical covariance that is left, shape (cells,), float64.
    diagonal : Tensor
        Added to the diagonal, likewise.
    added : str
        The diagonal in words.
    """

    kept: Tensor
    diagonal: Tensor
    added: str

    @classmethod
    def of(cls, moments: Moments, epsilon: float, shrinkage: Shrinkage = "none") -> Covariance:
        """For moments, which may be those of a band of cells."""
        cells = moments.mean[-1].shape[0]
        ones = torch.ones(cells, dtype=torch.float64, device=moments.mean[-1].device)
        if shrinkage == "none":
            return cls(ones, ones * epsilon, f"epsilon {epsilon}")
        share, target = _oas(moments)
        return cls(1 - share, share * target, "shrinkage oas")

    def block(self, moments: Moments, a: int, b: int) -> Tensor:
        """Block (G_b, r_ab * d_a, d_b) of the covariances between levels a <= b, float64."""
        scatter = moments.scatter[a, b]
        factor = _along(self.kept / max(moments.count - 1, 1), scatter)
        covariance = scatter * factor
        if a == b:
            covariance.diagonal(dim1=1, dim2=2).add_(_along(self.diagonal, scatter).squeeze(-1))
        return covariance


def traces(moments: Moments) -> tuple[Tensor, Tensor]:
    """Traces of the empirical covariances and of their squares, means over each cell's patches.

    Returns
    -------
    trace, square : Tensor
        Shape (cells,), float64.
    """
    cells = moments.mean[-1].shape[0]
    scale = 1.0 / max(moments.count - 1, 1)
    trace = torch.zeros(cells, dtype=torch.float64, device=moments.mean[-1].device)
    square = torch.zeros_like(trace)
    for (a, b), scatter in moments.scatter.items():
        # Each position of the finer level stands for as many patches as every other one.
        fine = moments.mean[a].shape[0] // cells
        squares = scatter.square().view(cells, -1).sum(dim=1) / fine * scale**2
        square += squares if a == b else 2 * squares
        if a == b:
            trace += scatter.diagonal(dim1=1, dim2=2).reshape(cells, -1).sum(dim=1) / fine * scale
    return trace, square


def _oas(moments: Moments) -> tuple[Tensor, Tensor]:
    """Share of the target, and the target's variance, of each cell."""
    n, d = moments.count, sum(mean.shape[1] for mean in moments.mean)
    trace, square = traces(moments)
    above = (1 - 2 / d) * square + trace.square()
    below = (n + 1 - 2 / d) * (square - trace.square() / d)
    share = (above / below.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1.0)
    return share, trace / d


def _along(values: Tensor, block: Tensor) -> Tensor:
    """Values of the cells for each row of axis 0 of a block, to multiply it with."""
    rows = block.shape[0] // values.shape[0]
    return values.repeat_interleave(rows)[:, None, None]
