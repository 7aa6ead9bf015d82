"""Drift: squared distance of a run's mean embedding from the model's mean.

The distance is measured with the model's whitening, like that of an image. For n images of
an unchanged scene and N images in the model, its expectation is that of one image times
1 / n + 1 / N. Its standard deviation follows from the inner products of whitened images
(Satterthwaite's approximation of a quadratic form).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import torch
from torch import Tensor

from padim_dist.core.gaussian import Gaussian, squared_lengths

_POSITIONS_PER_STEP = 512  # whose products are in memory together
_LEAST_ENERGY = 1e-6
"""Squared distances below this are the rounding of float32, as of images that are all alike."""
_MOST_SHAPE = 1e8
"""Shape from which on a gamma distribution is a normal one, for `Drift.limit`."""

FALSE_DRIFT = 0.001
"""Family-wise false-alarm rate of drift."""
ALIKE = "the normal images of the model are all alike, so nothing says how much their mean varies"
NOT_FINITE = "its figures are not finite numbers"


@dataclass(frozen=True)
class Noise:
    """Sampling noise of a group's mean embedding, averaged over the patches.

    Attributes
    ----------
    energy : float
        Mean squared leave-one-out distance: trace of the covariance of whitened images.
    overlap : float
        Mean squared inner product of two whitened images: trace of the squared covariance.
    """

    energy: float
    overlap: float

    @property
    def is_measurable(self) -> bool:
        """Whether the images differ by more than rounding."""
        return self.energy >= _LEAST_ENERGY and self.overlap > 0


@dataclass(frozen=True)
class Drift:
    """Drift of a group in a run.

    Attributes
    ----------
    images : int
        Number of images n of the group in the run.
    drift : float
        Squared distance of their mean from the model's, averaged over the patches.
    expected, noise : float
        Mean and standard deviation of `drift` for an unchanged scene and independent images.
    """

    images: int
    drift: float
    expected: float
    noise: float

    @property
    def z(self) -> float:
        """Standard deviations by which the drift exceeds what is expected; NaN without noise."""
        return (self.drift - self.expected) / self.noise if self.noise else float("nan")

    @property
    def is_finite(self) -> bool:
        """Whether all of its figures are numbers."""
        return all(map(isfinite, (self.drift, self.expected, self.noise, self.z)))

    def limit(self, chance: float) -> float:
        """Return the `z` that an unchanged scene exceeds with probability `chance`.

        Satterthwaite's approximation: a multiple of a chi-squared variable with the same mean
        and standard deviation. Its upper tail is heavier than the normal one. NaN without noise.

        Examples
        --------
        >>> round(Drift(100, 1.0, 1.0, 0.5).limit(0.001), 2)
        4.53
        """
        from scipy.special import gammainccinv, ndtri  # as in `core.regions`

        if not self.is_finite or self.expected <= 0:
            return float("nan")
        ratio = self.expected / self.noise
        shape = ratio * ratio
        if shape > _MOST_SHAPE:
            return float(ndtri(1 - chance))
        limit = float(gammainccinv(shape, chance) / ratio - ratio) if ratio else 0.0
        return limit if isfinite(limit) else 0.0  # so much noise that the drift is nearly always 0


def measure_drift(
    mean: Sequence[Tensor],
    images: int,
    gaussian: Gaussian,
    count: int,
    noise: Noise,
    usual: Tensor,
    judged: Tensor | None = None,
) -> tuple[Drift, Tensor]:
    """Measure the drift of a group.

    Parameters
    ----------
    mean : sequence of Tensor
        Mean embedding of the run's images, mean[a] (G_a, d_a), float32, in nested order.
    images : int
        Number of images n of the run.
    gaussian, count
        The model and its number of images N.
    noise : Noise
        Noise of the model's normal images.
    usual : Tensor
        Mean squared leave-one-out distance of normal images at each patch, (G_0,).
    judged : Tensor, optional
        The patches that count, bool, (G_0,), as of `PyramidShape.judged`; None: all.

    Returns
    -------
    drift : Drift
        Mean over the patches that count.
    ratio : Tensor
        Drift of each patch divided by its expectation for an unchanged scene, (G_0,). NaN where
        the normal images do not differ, e.g. at a black border.
    """
    squares = squared_lengths(gaussian.whitened([level.unsqueeze(-1) for level in mean]))[:, 0]
    share = 1 / images + 1 / count
    counted = squares if judged is None else squares[judged]
    found, expected = float(counted.mean(dtype=torch.float64)), noise.energy * share
    drift = Drift(images, found, expected, sqrt(2 * noise.overlap) * share)
    return drift, torch.where(usual < _LEAST_ENERGY, torch.nan, squares / (usual * share))


def measure_noise(whitened: Sequence[Tensor], scale: Tensor, judged: Tensor | None = None) -> float:
    """Return `Noise.overlap`: the mean squared inner product of two whitened images.

    Parameters
    ----------
    whitened : sequence of Tensor
        z[a] (G_a, d_a, N) of N >= 2 normal images.
    scale : Tensor
        Leave-one-out distance divided by distance, (G_0, N).
    judged : Tensor, optional
        The patches that count, bool, (G_0,); None: all.
    """
    patches, n = scale.shape
    if judged is not None:
        patches, scale = int(judged.sum()), scale * judged[:, None]
    gram = torch.zeros((n, n), dtype=torch.float64, device=scale.device)
    for z in whitened:
        # A position covers several patches, each with its own scale.
        weights = scale.view(z.shape[0], -1, n)
        for start in range(0, z.shape[0], _POSITIONS_PER_STEP):
            some = slice(start, start + _POSITIONS_PER_STEP)
            products = torch.bmm(z[some].mT, z[some])
            products *= torch.bmm(weights[some].mT, weights[some])
            gram += products.sum(dim=0, dtype=torch.float64)
    gram /= patches
    gram.fill_diagonal_(0)
    return float(gram.square().sum() / (n * (n - 1)))
