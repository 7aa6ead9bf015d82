"""The package's distances beside those of the dense Gaussian."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import factorise
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_distances, dense_embedding, dense_fit

_NORMAL, _BATCH = 32, 8


def largest_error(shape: PyramidShape, maps: list[Tensor]) -> float:
    """Return the largest relative error of distances of feature maps, against float64.

    The first 32 images are the normal ones; the distances are those of the others.
    """
    normal, new = [m[:_NORMAL] for m in maps], [m[_NORMAL:] for m in maps]
    mean, covariance = dense_fit(dense_embedding(normal), 0.01)
    wanted = dense_distances(dense_embedding(new), mean, covariance)
    moments = Moments.zeros(shape)
    for start in range(0, _NORMAL, _BATCH):
        moments.update(shape.nest([m[start : start + _BATCH] for m in normal]))
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    found = shape.unnest(gaussian.distances(shape.nest(new))).numpy()
    return float((np.abs(found - wanted) / wanted).max())
