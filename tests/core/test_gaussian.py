"""The pyramid has the distances, means and covariances of a dense oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import DenseView, factorise
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import ConfigError
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps


@st.composite
def pyramids(draw: st.DrawFn) -> PyramidShape:
    """Draw 1 to 4 levels with whole ratios (1 included); grids may be rectangles."""
    h, w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    grids = [(h, w)]
    for _ in range(draw(st.integers(0, 3))):
        h, w = h * draw(st.integers(1, 3)), w * draw(st.integers(1, 3))
        grids.insert(0, (h, w))
    channels = tuple(draw(st.integers(1, 5)) for _ in grids)
    order = tuple(draw(st.permutations(range(sum(channels)))))
    return PyramidShape(tuple(grids), channels, order)


def fitted(shape: PyramidShape, maps: list[torch.Tensor], batch: int) -> Moments:
    moments = Moments.zeros(shape)
    for start in range(0, len(maps[0]), batch):
        moments.update(shape.nest([m[start : start + batch] for m in maps]))
    return moments


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference, relative to the distance or to 1 if that is larger.

    (A distance near 0 is the float32 rounding of a mean.)
    """
    return float((np.abs(found - wanted) / np.maximum(wanted, 1.0)).max())


@given(pyramids(), st.integers(2, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_distances_equal_the_dense_ones(shape, n, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    normal = random_maps(shape, n, generator)
    new = random_maps(shape, 3, generator)
    mean, covariance = dense_fit(dense_embedding(normal), 0.01)
    wanted = dense_distances(dense_embedding(new), mean, covariance)
    moments = fitted(shape, normal, batch)
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    found = shape.unnest(gaussian.distances(shape.nest(new)))
    assert relative(found.numpy(), wanted) <= 1e-5


@given(pyramids(), st.integers(1, 12), st.integers(0, 2**31))
def test_dense_view_is_the_papers_gaussian(shape, n, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = random_maps(shape, n, generator)
    mean, covariance = dense_fit(dense_embedding(maps), 0.01)
    moments = fitted(shape, maps, 5)
    ours = Covariance.of(moments, 0.01)
    arrays = moments.mean, moments.scatter
    view = DenseView(shape, moments.count, *arrays, ours.kept, ours.diagonal)
    order = list(shape.paper_order)
    y, x = shape.grids[0][0] - 1, shape.grids[0][1] // 2
    np.testing.assert_allclose(view.mean(y, x), mean[y, x][order], rtol=1e-6)
    wanted = covariance[y, x][np.ix_(order, order)]
    np.testing.assert_allclose(view.covariance(y, x), wanted, rtol=1e-5, atol=1e-6)


@given(pyramids(), st.integers(0, 2**31))
def test_bands_equal_the_whole(shape, seed):
    """Every array splits along axis 0: factorising a band gives that band's numbers."""
    generator = torch.Generator().manual_seed(seed)
    moments = fitted(shape, random_maps(shape, 8, generator), 8)
    whole = factorise(moments, Covariance.of(moments, 0.01))
    cut = shape.cells // 2
    for low, high in ((0, cut), (cut, shape.cells)):
        if low == high:
            continue
        ratio = [shape.ratio(a, shape.levels - 1) for a in range(shape.levels)]
        band = Moments(
            moments.count,
            [m[low * r : high * r] for m, r in zip(moments.mean, ratio, strict=True)],
            {(a, b): s[low * ratio[b] : high * ratio[b]] for (a, b), s in moments.scatter.items()},
        )
        part = factorise(band, Covariance.of(band, 0.01))
        for a, r in enumerate(ratio):
            torch.testing.assert_close(part.whiten[a], whole.whiten[a][low * r : high * r])


def test_epsilon_too_small_is_named():
    shape = PyramidShape(((2, 2),), (4,))
    moments = fitted(shape, [torch.ones(3, 4, 2, 2)], 3)
    with pytest.raises(ConfigError, match=r"not positive definite.*raise model\.epsilon"):
        factorise(moments, Covariance.of(moments, 0.0))
    factorise(moments, Covariance.of(moments, 0.01))
