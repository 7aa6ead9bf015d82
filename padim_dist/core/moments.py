"""Count, mean and centred scatter of a pyramid of embeddings.

They give the estimate of the paper's equation (1). Moments of separate shards merge
exactly (Chan, Golub and LeVeque, 1983). Products are float32 and sums float64. The
scatter is centred before it is summed: raw squares are never subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from padim_dist.core.pyramid import PyramidShape

Blocks = dict[tuple[int, int], Tensor]

_PRODUCTS_PER_STEP = {"cpu": 2**18, "cuda": 2**26}
"""On a CPU a step fits the cache: a single step took three times as long for d = 448, limited
by memory bandwidth. On a GPU a step takes a small part of the memory."""


@dataclass
class Moments:
    """Moments of a set of images.

    Attributes
    ----------
    count : int
        Number of images n.
    mean : list of Tensor
        mean[a], shape (G_a, d_a), float64.
    scatter : dict of (int, int) to Tensor
        scatter[a, b] for a <= b, shape (G_b, r_ab * d_a, d_b), float64: centred
        products of level a with level b, summed over the images.

    Examples
    --------
    >>> shape = PyramidShape(grids=((2, 2), (1, 1)), channels=(2, 3))
    >>> moments = Moments.zeros(shape)
    >>> moments.update([torch.randn(4, 2, 8), torch.randn(1, 3, 8)])
    >>> moments.count, tuple(moments.scatter[0, 1].shape)
    (8, (1, 8, 3))
    """

    count: int
    mean: list[Tensor]
    scatter: Blocks

    @classmethod
    def zeros(
        cls,
        shape: PyramidShape,
        device: torch.device | str = "cpu",
        cells: int | None = None,
    ) -> Moments:
        """Return the moments of 0 images, of so many coarsest cells or of all."""

        def zeros(size: tuple[int, ...]) -> Tensor:
            rows = size[0] if cells is None else size[0] // shape.cells * cells
            return torch.zeros((rows, *size[1:]), dtype=torch.float64, device=device)

        return cls(
            count=0,
            mean=[zeros(shape.mean_shape(a)) for a in range(shape.levels)],
            scatter={ab: zeros(shape.block_shape(*ab)) for ab in shape.pairs},
        )

    @property
    def is_finite(self) -> bool:
        """Whether all means are finite."""
        return all(bool(mean.isfinite().all()) for mean in self.mean)

    def update(self, levels: Sequence[Tensor]) -> None:
        """Add a batch in place: level matrices x[a] (G_a, d_a, N), float32, in nested order."""
        n = levels[0].shape[-1]
        if n == 0:
            return
        total = self.count + n
        # The scaled step from the old mean to the batch mean is one more column of the
        # centred batch, so that the products include Chan's correction.
        weight = sqrt(self.count * n / total)
        centred = []
        for mean, x in zip(self.mean, levels, strict=True):
            batch_mean = x.mean(dim=-1, dtype=torch.float64)
            step = batch_mean - mean
            column = (weight * step).to(x.dtype).unsqueeze(-1)
            centred.append(torch.cat([x - batch_mean.to(x.dtype).unsqueeze(-1), column], dim=-1))
            mean.add_(step, alpha=n / total)
        for (a, b), scatter in self.scatter.items():
            fine = centred[a].view(scatter.shape[0], scatter.shape[1], -1)
            cells = max(1, _PRODUCTS_PER_STEP[scatter.device.type] // scatter[0].numel())
            pieces = (array.split(cells) for array in (scatter, fine, centred[b]))
            for rows, left, right in zip(*pieces, strict=True):
                rows.add_(torch.bmm(left, right.mT))
        self.count = total

    def take(self, batches: list[list[Tensor]]) -> None:
        """Add batches in place, as one: those of a list, which is empty then. See `update`."""
        if len(batches) > 1:
            batches[:] = [[torch.cat(levels, dim=-1) for levels in zip(*batches, strict=True)]]
        if batches:
            self.update(batches.pop())

    def merge(self, other: Moments) -> None:
        """Add the images of `other` in place, in float64."""
        if other.count == 0:
            return
        total = self.count + other.count
        steps = [theirs - mine for mine, theirs in zip(self.mean, other.mean, strict=True)]
        self._add_scatter(other, steps, 1.0, self.count * other.count / total)
        for mean, step in zip(self.mean, steps, strict=True):
            mean.add_(step, alpha=other.count / total)
        self.count = total

    def subtract(self, other: Moments) -> None:
        """Remove the images of `other` in place: the inverse of `merge`.

        Raises
        ------
        ValueError
            If `other` has more images than these moments.
        """
        rest = self.count - other.count
        if rest < 0:
            raise ValueError(f"cannot subtract moments of n = {other.count} from n = {self.count}")
        if other.count == 0:
            return
        if rest == 0:
            for array in (*self.mean, *self.scatter.values()):
                array.zero_()
            self.count = 0
            return
        steps = []
        for mean, theirs in zip(self.mean, other.mean, strict=True):
            mean.add_(mean - theirs, alpha=other.count / rest)
            steps.append(theirs - mean)
        self._add_scatter(other, steps, -1.0, -rest * other.count / self.count)
        self.count = rest

    def _add_scatter(self, other: Moments, steps: list[Tensor], sign: float, weight: float) -> None:
        for (a, b), scatter in self.scatter.items():
            fine = steps[a].view(scatter.shape[0], scatter.shape[1], 1)
            scatter.add_(other.scatter[a, b], alpha=sign)
            scatter.baddbmm_(fine, steps[b].unsqueeze(1), alpha=weight)
