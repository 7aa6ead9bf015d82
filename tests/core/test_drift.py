"""Drift of unchanged and changed scenes, and its sampling noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from padim_dist.core.calibration import left_out
from padim_dist.core.covariance import Covariance
from padim_dist.core.drift import Drift, Noise, measure_drift, measure_noise
from padim_dist.core.gaussian import factorise, squared_lengths
from padim_dist.core.pyramid import PyramidShape
from tests.core.oracle import random_maps
from tests.core.test_gaussian import fitted

SHAPE = PyramidShape(((8, 8), (4, 4), (2, 2)), (3, 4, 5))
FITTED, NEW = 150, 20


def scenes(n: int, generator: torch.Generator, mixes: list) -> list[torch.Tensor]:
    """Return feature maps of a scene, given the mixing and the offsets of its channels."""
    maps = []
    for (h, w), d, (mix, offset) in zip(SHAPE.grids, SHAPE.channels, mixes, strict=True):
        noise = torch.randn(n, h, w, d, generator=generator) @ mix
        # Noise that all patches share, such as a change of lighting.
        noise += 0.3 * torch.randn(n, 1, 1, d, generator=generator)
        maps.append((noise + offset).permute(0, 3, 1, 2))
    return maps


@pytest.fixture(scope="module")
def world():
    generator = torch.Generator().manual_seed(2)
    mixes = [
        (torch.randn(d, d, generator=generator) * 0.4, torch.rand(d, generator=generator))
        for d in SHAPE.channels
    ]
    normal = scenes(FITTED, generator, mixes)
    moments = fitted(SHAPE, normal, 50)
    gaussian = factorise(moments, Covariance.of(moments, 0.01))
    z = gaussian.whitened(SHAPE.nest(normal))
    squares = squared_lengths(z)
    others = left_out(squares, FITTED)
    overlap = measure_noise(z, (others / squares).sqrt())
    noise = Noise(float(others.mean()), overlap)

    def drift(shift: float):
        levels = SHAPE.nest(scenes(NEW, generator, mixes))
        mean = [level.mean(-1) + shift for level in levels]
        return measure_drift(mean, NEW, gaussian, FITTED, noise, others.mean(dim=1))

    return drift


def test_an_unchanged_scene_drifts_as_expected(world):
    found = [world(0.0) for _ in range(300)]
    drifts = np.array([drift.drift for drift, _ in found])
    assert drifts.mean() == pytest.approx(found[0][0].expected, rel=0.1)
    assert drifts.std() == pytest.approx(found[0][0].noise, rel=0.3)
    ratios = torch.stack([ratio for _, ratio in found]).mean(dim=0)
    assert 0.6 < float(ratios.min()) < float(ratios.max()) < 1.6


def test_a_shift_is_far_beyond_the_noise(world):
    assert min(world(0.3)[0].z for _ in range(5)) > 5


def test_the_overlap_is_that_of_dense_vectors():
    """Compared with products of the concatenated, repeated vectors."""
    maps = random_maps(SHAPE, 6, torch.Generator().manual_seed(0))
    z = SHAPE.nest(maps)
    scale = torch.rand(SHAPE.positions[0], 6)
    dense = np.zeros((6, 6))
    for level, values in enumerate(z):
        repeated = values.repeat_interleave(SHAPE.ratio(0, level), dim=0) * scale[:, None]
        dense += np.einsum("gdi,gdj->ij", repeated.double().numpy(), repeated.double().numpy())
    dense /= SHAPE.positions[0]
    wanted = (dense[~np.eye(6, dtype=bool)] ** 2).mean()
    assert measure_noise(z, scale) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5])
def test_the_noise_limit_is_exceeded_at_its_stated_rate(decay):
    """Squared lengths of 50,000 normal vectors with decreasing variances."""
    variances = np.exp(-decay * np.arange(64))
    normal = np.random.default_rng(0).normal(size=(50_000, 64))
    squares = (normal**2 * variances).sum(axis=1)
    expected, noise = variances.sum(), np.sqrt(2 * (variances**2).sum())
    limit = Drift(1, 0.0, float(expected), float(noise)).limit(0.01)
    share = ((squares - expected) / noise > limit).mean()
    assert 0.007 < share < 0.014
