"""Dense PaDiM, as it is usually written, in batched matrix products: the fastest version.

The counterpart of `Moments` and `Gaussian`: every patch has a full embedding, a d x d
covariance and its inverse. (Common implementations loop over the patches, or keep all
embeddings; this one does neither.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 0.01


def embed(maps: Sequence[Tensor]) -> Tensor:
    """Repeat the coarse maps and concatenate: patches (P, d, N) of maps (N, d_a, H_a, W_a)."""
    size = maps[0].shape[-2:]
    whole = torch.cat([functional.interpolate(m, size=size, mode="nearest") for m in maps], dim=1)
    return whole.flatten(2).permute(2, 1, 0).contiguous()


class DenseMoments:
    """Mean and scatter of all patches: (P, d) and (P, d, d), products float32, sums float64."""

    def __init__(self, patches: int, depth: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(patches, depth, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(patches, depth, depth, dtype=torch.float64, device=device)

    def update(self, x: Tensor) -> None:
        """Add a batch (P, d, N), by the formula of Chan, Golub and LeVeque."""
        n = x.shape[-1]
        mean = x.mean(dim=-1, dtype=torch.float64)
        centred = x - mean.to(x.dtype).unsqueeze(-1)
        step = mean - self.mean
        total = self.count + n
        self.scatter.add_(torch.bmm(centred, centred.mT))
        self.scatter.baddbmm_(step.unsqueeze(2), step.unsqueeze(1), alpha=self.count * n / total)
        self.mean.add_(step, alpha=n / total)
        self.count = total


class DenseGaussian:
    """Mean and inverse covariance of all patches, float32."""

    def __init__(self, mean: Tensor, precision: Tensor) -> None:
        self.mean, self.precision = mean, precision

    @classmethod
    def fit(cls, moments: DenseMoments, epsilon: float) -> DenseGaussian:
        """Return the Gaussian of moments."""
        covariance = moments.scatter / max(moments.count - 1, 1)
        covariance.diagonal(dim1=1, dim2=2).add_(epsilon)
        factor = torch.linalg.cholesky(covariance)
        del covariance
        return cls(moments.mean.float(), torch.cholesky_inverse(factor).float())

    @classmethod
    def standard(cls, patches: int, depth: int) -> DenseGaussian:
        """Return independent standard variables, whose distances take as long as any others."""
        precision = torch.eye(depth).expand(patches, depth, depth).contiguous()
        return cls(torch.zeros(patches, depth), precision)

    def distances(self, x: Tensor) -> Tensor:
        """Mahalanobis distances (P, N) of patches (P, d, N)."""
        centred = x - self.mean.unsqueeze(-1)
        return (torch.bmm(self.precision, centred) * centred).sum(dim=1).clamp_(min=0).sqrt_()


def smooth(distances: Tensor, size: int) -> Tensor:
    """Bicubic up-sampling, then a two-dimensional Gaussian filter of 33 x 33."""
    offsets = torch.arange(-16, 17) / 4.0
    line = torch.exp(-0.5 * offsets.square())
    kernel = torch.outer(line, line) / line.sum() ** 2
    maps = functional.interpolate(distances[:, None], size=(size, size), mode="bicubic")
    padded = functional.pad(maps, (16, 16, 16, 16), mode="reflect")
    return functional.conv2d(padded, kernel[None, None])[:, 0]
