"""Moments: batches, merges and subtractions in any order equal one pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import dense_embedding, dense_fit, random_maps

SHAPE = PyramidShape(((4, 4), (2, 2), (2, 2)), (2, 3, 4))


def of(maps: list[torch.Tensor]) -> Moments:
    moments = Moments.zeros(SHAPE)
    moments.update(SHAPE.nest(maps))
    return moments


def assert_close(a: Moments, b: Moments, tolerance: float = 1e-5) -> None:
    assert a.count == b.count
    for x, y in zip(a.mean, b.mean, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
    for pair in a.scatter:
        torch.testing.assert_close(a.scatter[pair], b.scatter[pair], rtol=tolerance, atol=1e-4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**31))
def test_merge_equals_one_pass_for_any_cut(sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = random_maps(SHAPE, sum(sizes), generator)
    merged, start = Moments.zeros(SHAPE), 0
    for size in sizes:
        merged.merge(of([m[start : start + size] for m in maps]))
        start += size
    assert_close(merged, of(maps))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_subtract_undoes_merge(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = of(random_maps(SHAPE, n, generator)), of(random_maps(SHAPE, m, generator))
    both = copy.deepcopy(a)
    both.merge(b)
    both.subtract(b)
    assert_close(both, a, tolerance=1e-9)


def test_subtracting_everything_leaves_nothing():
    a = of(random_maps(SHAPE, 4, torch.Generator().manual_seed(1)))
    rest = copy.deepcopy(a)
    rest.subtract(a)
    assert_close(rest, Moments.zeros(SHAPE))
    with pytest.raises(ValueError, match="cannot subtract moments of n = 4 from n = 0"):
        rest.subtract(a)


def test_a_large_offset_does_not_cancel():
    """Values around 1000 have the same variance as values around 0."""
    generator = torch.Generator().manual_seed(2)
    maps = [m + 1000 for m in random_maps(SHAPE, 64, generator)]
    moments = Moments.zeros(SHAPE)
    for start in range(0, 64, 8):
        moments.update(SHAPE.nest([m[start : start + 8] for m in maps]))
    _, covariance = dense_fit(dense_embedding(maps), 0.0)
    variances = covariance[..., range(9), range(9)][..., :2].reshape(16, 2)
    order = SHAPE._order(0, torch.device("cpu")).numpy()
    found = torch.diagonal(moments.scatter[0, 0], dim1=1, dim2=2).numpy() / 63
    np.testing.assert_allclose(found, variances[order], rtol=1e-3)


def test_an_empty_batch_changes_nothing():
    moments = Moments.zeros(SHAPE)
    moments.update(
        SHAPE.nest(
            [torch.empty(0, d, *g) for g, d in zip(SHAPE.grids, SHAPE.channels, strict=True)]
        )
    )
    moments.merge(Moments.zeros(SHAPE))
    assert moments.count == 0
    assert not any(s.any() for s in moments.scatter.values())
