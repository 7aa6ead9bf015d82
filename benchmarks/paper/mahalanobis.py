"""MahalanobisAD (Rippel, Mertens and Merhof, arXiv 2005.14140): a Gaussian of whole images.

The features of each level are averaged over the image. A Gaussian is fitted to those of the normal
images, with the covariance of Ledoit and Wolf. The score is the sum of the Mahalanobis distances
of all levels. It says nothing of where a defect is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from benchmarks.paper.features import Features
from benchmarks.paper.protocol import Figures, judge_scores
from benchmarks.paper.sets import Picture
from benchmarks.paper.spade import pool


@dataclass(frozen=True)
class LevelGaussian:
    """A Gaussian of the pooled features of a level.

    Attributes
    ----------
    mean, precision : array of float
        (C,) and the inverse of the covariance, (C, C).
    """

    mean: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, pooled: npt.NDArray[np.float32]) -> LevelGaussian:
        """Fit on pooled features (N, C)."""
        fitted = LedoitWolf().fit(pooled.astype(np.float64))
        return cls(fitted.location_, fitted.precision_)

    def distances(self, pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the Mahalanobis distances (N,) of pooled features (N, C)."""
        centred = pooled.astype(np.float64) - self.mean
        squares = np.einsum("ni,ij,nj->n", centred, self.precision, centred)
        distances: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
        return distances


def judge(features: Features, test: Sequence[Picture]) -> Figures:
    """Return the image AUROC of the summed distances."""
    scores = np.zeros(len(test))
    for train, new in zip(features.train, features.test, strict=True):
        scores += LevelGaussian.fit(pool(train).numpy()).distances(pool(new).numpy())
    return judge_scores(test, scores)
