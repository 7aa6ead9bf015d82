"""Drift: how far the mean of a run's embeddings lies from the model's mean.

The whitening that measures an image measures a mean as well. Of the mean of n images of
an unchanged scene the squared distance is expected to be that of one image, times
1 / n + 1 / N with N images in the model; how far chance moves it follows from how much
the whitened images have in common (Satterthwaite's approximation of a quadratic form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from scipy.special import gammainccinv
from torch import Tensor

from padim_dist.core.gaussian import Gaussian, squared_lengths


@dataclass(frozen=True)
class Noise:
    """What normal images' whitened embeddings are like, as a mean over the patches.

    Attributes
    ----------
    energy : float
        Mean squared distance of an image left out: the trace of their covariance.
    overlap : float
        Mean squared product of two images: the trace of its square.
    """

    energy: float
    overlap: float


@dataclass(frozen=True)
class Drift:
    """The drift of a group in a run.

    Attributes
    ----------
    images : int
        Images n of the run.
    drift : float
        Squared distance of their mean from the model's, a mean over the patches.
    expected, noise : float
        Its mean and standard deviation if nothing has changed and images are independent.
    """

    images: int
    drift: float
    expected: float
    noise: float

    @property
    def z(self) -> float:
        """Standard deviations by which the drift is beyond what is expected."""
        return (self.drift - self.expected) / self.noise

    def limit(self, chance: float) -> float:
        """`z` that an unchanged scene exceeds with this probability.

        Satterthwaite's approximation: a multiple of a chi-squared variable that has this mean
        and standard deviation, so its upper tail is heavier than the normal one.

        Examples
        --------
        >>> round(Drift(100, 1.0, 1.0, 0.5).limit(0.001), 2)
        4.53
        """
        shape, scale = (self.expected / self.noise) ** 2, self.noise**2 / self.expected
        return float((scale * gammainccinv(shape, chance) - self.expected) / self.noise)


def measure_drift(
    mean: Sequence[Tensor],
    images: int,
    gaussian: Gaussian,
    count: int,
    noise: Noise,
    usual: Tensor,
) -> tuple[Drift, Tensor]:
    """Measure the drift of a group.

    Parameters
    ----------
    mean : sequence of Tensor
        Mean embedding of the run's images, mean[a] (G_a, d_a), float32, in nested order.
    images : int
        Their number.
    gaussian, count
        Of the model, and the number of images in it.
    noise : Noise
        Of the model's normal images.
    usual : Tensor
        Mean squared distance of a normal image left out at each patch, (G_0,).

    Returns
    -------
    drift : Drift
        Over all patches.
    ratio : Tensor
        Of each patch, (G_0,): squared drift over what is expected of an unchanged scene.
    """
    squares = squared_lengths(gaussian.whitened([level.unsqueeze(-1) for level in mean]))[:, 0]
    share = 1 / images + 1 / count
    drift = Drift(
        images=images,
        drift=float(squares.mean(dtype=torch.float64)),
        expected=noise.energy * share,
        noise=sqrt(2 * noise.overlap) * share,
    )
    return drift, squares / (usual * share)


def measure_noise(whitened: Sequence[Tensor], scale: Tensor) -> float:
    """Mean squared product of two different images' whitened embeddings.

    Parameters
    ----------
    whitened : sequence of Tensor
        z[a] (G_a, d_a, N) of N >= 2 normal images.
    scale : Tensor
        By how much each image's distance grows when it is left out, (G_0, N).

    Returns
    -------
    float
        `Noise.overlap`.
    """
    patches, n = scale.shape
    gram = torch.zeros((n, n), dtype=torch.float64, device=scale.device)
    for z in whitened:
        # Each position stands for some patches, of which each has a scale of its own.
        weights = scale.view(z.shape[0], -1, n)
        for start in range(0, z.shape[0], _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            products = torch.bmm(z[some].mT, z[some])
            products *= torch.bmm(weights[some].mT, weights[some])
            gram += products.sum(dim=0, dtype=torch.float64)
    gram /= patches
    gram.fill_diagonal_(0)
    return float(gram.square().sum() / (n * (n - 1)))


_AT_ONCE = 512
"""Positions whose products are held at the same time."""
