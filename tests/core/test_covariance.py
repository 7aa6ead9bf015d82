"""Shrinkage and the quality of a fit, compared with dense oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS

from padim_dist.core.covariance import Covariance, traces
from padim_dist.core.gaussian import DenseView, factorise
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.quality import Quality, condition_numbers, regularised_share
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps
from tests.core.test_gaussian import fitted, pyramids, relative


@given(pyramids(), st.integers(4, 20), st.integers(0, 2**31))
def test_traces_are_means_over_the_patches_of_a_cell(shape, n, seed):
    maps = random_maps(shape, n, torch.Generator().manual_seed(seed))
    _, covariance = dense_fit(dense_embedding(maps), 0.0)
    trace, square = traces(fitted(shape, maps, 7))
    wanted = np.zeros((2, shape.cells))
    (height, width), (rows, columns) = shape.grids[0], shape.grids[-1]
    for cell in range(shape.cells):
        y, x = divmod(cell, columns)
        step = height // rows, width // columns
        own = covariance[y * step[0] : (y + 1) * step[0], x * step[1] : (x + 1) * step[1]]
        wanted[0, cell] = np.trace(own, axis1=-2, axis2=-1).mean()
        wanted[1, cell] = np.trace(own @ own, axis1=-2, axis2=-1).mean()
    np.testing.assert_allclose(trace.numpy(), wanted[0], rtol=1e-5)
    np.testing.assert_allclose(square.numpy(), wanted[1], rtol=1e-5)


@given(pyramids(), st.integers(2, 20), st.integers(0, 2**31))
def test_distances_under_shrinkage_are_the_dense_ones(shape, n, seed):
    generator = torch.Generator().manual_seed(seed)
    maps, new = random_maps(shape, n, generator), random_maps(shape, 2, generator)
    moments = fitted(shape, maps, 7)
    ours = Covariance.of(moments, 0.01, "oas")
    arrays = moments.mean, moments.scatter
    view = DenseView(shape, n, *arrays, ours.kept, ours.diagonal)
    height, width = shape.grids[0]
    order = np.argsort(shape.paper_order)
    covariance = np.array(
        [[view.covariance(y, x)[np.ix_(order, order)] for x in range(width)] for y in range(height)]
    )
    mean, _ = dense_fit(dense_embedding(maps), 0.0)
    wanted = dense_distances(dense_embedding(new), mean, covariance)
    found = shape.unnest(factorise(moments, ours).distances(shape.nest(new))).numpy()
    assert relative(found, wanted) <= 1e-4


@pytest.mark.parametrize("n", [20, 200])
def test_the_share_is_that_of_scikit_learn(n):
    """Scikit-learn omits a term 2 / d, which is small for many channels."""
    shape = PyramidShape(((1, 1),), (80,))
    maps = random_maps(shape, n, torch.Generator().manual_seed(3))
    ours = Covariance.of(fitted(shape, maps, n), 0.01, "oas")
    theirs = OAS().fit(maps[0][:, :, 0, 0].double().numpy())
    assert 1 - float(ours.kept) == pytest.approx(theirs.shrinkage_, rel=0.05)


@given(pyramids(), st.integers(2, 20), st.integers(0, 2**31))
def test_quality_is_that_of_the_dense_covariances(shape, n, seed):
    maps = random_maps(shape, n, torch.Generator().manual_seed(seed))
    moments = fitted(shape, maps, 7)
    ours = Covariance.of(moments, 0.01)
    _, covariance = dense_fit(dense_embedding(maps), 0.01)
    shares = 0.01 * shape.depth / np.trace(covariance, axis1=-2, axis2=-1)
    found = shape.unnest(regularised_share(moments, ours)[:, None])[0]
    np.testing.assert_allclose(found.numpy(), shares, rtol=1e-5)
    (height, width), (rows, columns) = shape.grids[0], shape.grids[-1]
    firsts = covariance[:: height // rows, :: width // columns]
    conditions = shape.unnest(condition_numbers(moments, ours)[:, None], shape.levels - 1)[0]
    np.testing.assert_allclose(conditions.numpy(), np.linalg.cond(firsts), rtol=1e-4)


def test_a_poor_fit_is_named():
    def quality(images: int, share: float) -> Quality:
        return Quality(images, 10, np.full((2, 2), share), np.ones((1, 1)))

    assert quality(11, 0.1).warnings() == []
    assert "10 images for 10 channels" in quality(10, 0.1).warnings()[0]
    assert "95% of the variance" in quality(11, 0.95).warnings()[0]
