"""Parts of a score by level, compared with dense Gaussians of the coarser channels alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.calibration import left_out
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import factorise, nested_squares
from padim_dist.core.heatmap import AnomalyMap, divide_scores, find_peaks
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps
from tests.core.test_gaussian import fitted, pyramids


def coarse_squares(shape: PyramidShape, normal: np.ndarray, new: np.ndarray) -> list[np.ndarray]:
    """Return squared distances (N, H, W) of the channels of levels a, a + 1, ..., for each a."""
    starts = np.concatenate([[0], np.cumsum(shape.channels)])[:-1]
    return [
        dense_distances(new[..., start:], *dense_fit(normal[..., start:], 0.01)) ** 2
        for start in starts
    ]


def finest(shape: PyramidShape, squares: list[torch.Tensor]) -> np.ndarray:
    """Return the squares of all levels, repeated to the finest grid: (L, N, H, W)."""
    (h, w), maps = shape.grids[0], []
    for level, own in enumerate(squares):
        grid = shape.unnest(own, level).double().numpy()
        maps.append(grid.repeat(h // grid.shape[1], 1).repeat(w // grid.shape[2], 2))
    return np.stack(maps)


@given(pyramids(), st.integers(3, 20), st.integers(0, 2**31))
def test_squares_of_coarser_levels_are_those_of_a_model_of_them(shape, n, seed):
    generator = torch.Generator().manual_seed(seed)
    normal, new = random_maps(shape, n, generator), random_maps(shape, 3, generator)
    moments = fitted(shape, normal, 8)
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    found = finest(shape, nested_squares(gaussian.whitened(shape.nest(new))))
    wanted = np.stack(coarse_squares(shape, dense_embedding(normal), dense_embedding(new)))
    np.testing.assert_allclose(found, wanted, rtol=3e-5, atol=3e-5)


@given(pyramids(), st.floats(0.0, 3.0), st.integers(0, 2**31))
def test_parts_of_a_score_add_up_to_it(shape, sigma, seed):
    generator = torch.Generator().manual_seed(seed)
    normal, new = random_maps(shape, 12, generator), random_maps(shape, 3, generator)
    moments = fitted(shape, normal, 8)
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    squares = nested_squares(gaussian.whitened(shape.nest(new)))
    size = (4 * shape.grids[0][0], 5 * shape.grids[0][1])
    anomaly_map = AnomalyMap.build(shape.grids[0], size, sigma)
    scores, peaks = find_peaks(anomaly_map.full(shape.unnest(squares[0].sqrt())))
    parts = divide_scores(squares, shape, anomaly_map, peaks).numpy()
    np.testing.assert_allclose(parts.sum(axis=1), scores.numpy(), rtol=1e-5)
    # Patch by patch, from the dense distances.
    dense = coarse_squares(shape, dense_embedding(normal), dense_embedding(new))
    own = np.stack(dense) - np.stack([*dense[1:], np.zeros_like(dense[0])])
    for i, (y, x) in enumerate(peaks.tolist()):
        weights = np.outer(anomaly_map.rows[y].double(), anomaly_map.columns[x].double())
        wanted = (weights * own[:, i] / np.sqrt(dense[0][i])).sum(axis=(1, 2))
        np.testing.assert_allclose(parts[i], wanted, rtol=1e-4, atol=1e-4 * scores[i].item())


@given(pyramids(), st.integers(4, 12), st.integers(0, 2**31))
def test_squares_of_an_image_that_is_left_out(shape, n, seed):
    """`left_out` also holds level by level: the coarser channels are a Gaussian of their own."""
    normal = random_maps(shape, n, torch.Generator().manual_seed(seed))
    moments = fitted(shape, normal, 8)
    # The regularisation at which leaving out is exact.
    epsilon = 0.01 * (n - 2) / (n - 1)
    gaussian = factorise(moments, Covariance.of(moments, epsilon))
    squares = nested_squares(gaussian.whitened(shape.nest([m[:1] for m in normal])))
    found = finest(shape, [left_out(own, n) for own in squares])
    dense = dense_embedding(normal)
    wanted = np.stack(coarse_squares(shape, dense[1:], dense[:1]))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-4)
