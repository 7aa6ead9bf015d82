"""Regions of interest: patches inside are what they are without, and nothing else counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from padim_dist.core.covariance import Covariance
from padim_dist.core.drift import Noise, measure_drift, measure_noise
from padim_dist.core.gaussian import factorise, nested_squares
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap, divide_scores, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.roi.runs import inside_patches, mask_of, runs_of
from padim_dist.core.spec import EmbeddingSpec, TrunkSpec
from padim_dist.errors import ConfigError
from tests.core.oracle import dense_distances, dense_embedding, dense_fit, random_maps

WHOLE = PyramidShape(grids=((12, 16), (6, 8), (3, 4)), channels=(3, 5, 4))
masks = arrays(np.bool_, (12, 16)).filter(np.any)


def within(mask: np.ndarray) -> PyramidShape:
    return replace(WHOLE, inside=runs_of(mask))


def half() -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[:, :8] = True
    return mask


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_give_the_mask_again(mask):
    runs = runs_of(mask)
    assert sum(runs) == mask.size
    assert min(runs[1:], default=1) > 0
    np.testing.assert_array_equal(mask_of(runs, mask.shape), mask)


def test_runs_of_another_grid_and_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="192"):
        replace(WHOLE, inside=(0, 7))
    with pytest.raises(ConfigError, match="no patch inside"):
        replace(WHOLE, inside=(192,))


def test_a_patch_is_inside_if_half_of_its_pixels_are():
    pixels = np.zeros((8, 8), bool)
    pixels[:4, :2] = True  # half of the first patch
    pixels[4:, :1] = True  # a quarter of the third one
    pixels[5:8, 4:7] = True  # nine of sixteen of the last one
    assert inside_patches(pixels, (2, 2)).tolist() == [[True, False], [False, True]]
    # Where patches do not divide the picture, each has its own pixels.
    assert inside_patches(np.eye(5, dtype=bool), (5, 5)).tolist() == np.eye(5).tolist()


@given(masks)
def test_cells_with_a_patch_inside_are_kept_and_no_others(mask):
    shape = within(mask)
    cells = mask.reshape(3, 4, 4, 4).any(axis=(1, 3))
    assert shape.cells == cells.sum()
    assert shape.positions == tuple(cells.sum() * n for n in (16, 4, 1))
    maps = random_maps(WHOLE, 2, torch.Generator().manual_seed(0))
    nested = shape.nest(maps)
    assert [level.shape[0] for level in nested] == list(shape.positions)
    back = shape.unnest(nested[0][:, 0])
    inside = torch.from_numpy(mask)
    assert torch.equal(back[:, inside], maps[0][:, 0][:, inside])
    assert back[:, ~inside].isnan().all()
    coarse = shape.unnest(nested[2][:, 0], level=2)
    assert torch.equal(~coarse.isnan()[0], torch.from_numpy(cells))
    judged = shape.judged()
    assert int(judged.sum()) == mask.sum()
    y, x = np.argwhere(mask)[-1]
    assert judged[shape.index(0, y, x)]
    assert torch.equal(nested[1][shape.index(1, y, x), :, 0], maps[1][0, :, y // 2, x // 2])


@given(masks, st.sampled_from(["none", "oas"]))
def test_distances_inside_are_those_without_a_region(mask, shrinkage):
    """The same bits, and those of the paper's dense equations."""
    maps = random_maps(WHOLE, 40, torch.Generator().manual_seed(1))
    new = random_maps(WHOLE, 5, torch.Generator().manual_seed(2))
    found = []
    for shape in (WHOLE, within(mask)):
        moments = Moments.zeros(shape)
        moments.update(shape.nest([level[:23] for level in maps]))
        moments.update(shape.nest([level[23:] for level in maps]))
        gaussian = factorise(moments, Covariance.of(moments, 0.01, shrinkage))
        found.append(shape.unnest(gaussian.distances(shape.nest(new))))
    whole, inside = found
    assert torch.equal(inside[:, mask], whole[:, mask])
    if shrinkage == "none":
        dense = dense_distances(dense_embedding(new), *dense_fit(dense_embedding(maps), 0.01))
        wanted = dense[:, mask]
        np.testing.assert_allclose(inside[:, mask].numpy(), wanted, rtol=1e-4, atol=1e-4)


@given(masks, st.floats(0.5, 6))
def test_the_map_is_a_mean_of_the_patches_inside(mask, sigma):
    """Up-sampling and filter of the patches inside, divided by those of the mask."""
    distances = torch.rand(2, 12, 16, dtype=torch.float64) * 30 + 5
    size = (48, 64)

    def smooth(patches: torch.Tensor) -> np.ndarray:
        up = functional.interpolate(patches[None], size=size, mode="bicubic", align_corners=False)
        return np.stack([gaussian_filter(one, sigma, truncate=4.0) for one in up[0].numpy()])

    inside = torch.from_numpy(mask)
    weights = smooth(inside.double()[None]).clip(min=0.05)
    wanted = smooth(torch.where(inside, distances, 0.0)) / weights
    anomaly_map = AnomalyMap.build((12, 16), size, sigma)
    masked = torch.where(inside, distances, torch.nan).float()
    found = anomaly_map.full(masked, mask)
    torch.testing.assert_close(anomaly_map.full_of_kept(masked), found, equal_nan=True)
    pixels = mask.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_allclose(found[:, pixels].numpy(), wanted[:, pixels], rtol=1e-3, atol=1e-3)
    assert found[:, ~pixels].isnan().all()
    scores, peaks = find_peaks(found)
    for one, score, (y, x) in zip(found, scores, peaks.tolist(), strict=True):
        assert pixels[y, x]
        assert score == one[y, x] == np.nanmax(one.numpy())


def test_equal_patches_inside_give_the_same_map_up_to_the_border():
    mask = half()
    distances = torch.where(torch.from_numpy(mask), 7.0, torch.nan)[None]
    full = AnomalyMap.build((12, 16), (48, 64), 4.0).full(distances, mask)
    torch.testing.assert_close(full[0, :, :32], torch.full((48, 32), 7.0))


def test_far_from_the_border_the_map_is_that_of_the_whole():
    distances = torch.rand(1, 12, 16) * 30
    anomaly_map = AnomalyMap.build((12, 16), (48, 64), 1.0)
    inside = torch.where(torch.from_numpy(half()), distances, torch.nan)
    # Four sigma, and the two patches that bicubic weights reach.
    far = 32 - 4 - 8
    whole, part = anomaly_map.full(distances), anomaly_map.full(inside, half())
    torch.testing.assert_close(part[..., :far], whole[..., :far], rtol=1e-5, atol=1e-5)


@given(masks)
def test_parts_of_a_score_add_up_to_it(mask):
    shape = within(mask)
    whitened = [level.contiguous() for level in shape.nest(random_maps(WHOLE, 3, None))]
    squares = nested_squares(whitened)
    anomaly_map = AnomalyMap.build((12, 16), (48, 64), 4.0)
    scores, peaks = find_peaks(anomaly_map.full(shape.unnest(squares[0].sqrt()), mask))
    parts = divide_scores(squares, shape, anomaly_map, peaks)
    torch.testing.assert_close(parts.sum(dim=1), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", [None, half()], ids=["whole", "half"])
def test_an_image_whose_distances_are_not_finite_has_no_finite_score(mask):
    """NaN of a broken Gaussian is not taken for what is outside of a region of interest."""
    distances = torch.rand(2, 12, 16)
    distances[1, 2, 3] = torch.nan
    scores, _ = find_peaks(AnomalyMap.build((12, 16), (48, 64), 4.0).full(distances, mask))
    assert scores.isfinite().tolist() == [True, False]


def test_drift_and_its_noise_are_those_of_the_patches_inside():
    """As of a fit of the patches inside alone, in a pyramid of one level."""
    grid = PyramidShape(grids=((6, 8),), channels=(5,))
    mask = np.random.default_rng(0).random((6, 8)) < 0.4
    inside = replace(grid, inside=runs_of(mask))
    coarse = PyramidShape(grids=((6, 8), (3, 4)), channels=(5, 1))
    border = replace(coarse, inside=runs_of(mask))
    maps = torch.randn(30, 5, 6, 8)
    flat = torch.zeros(30, 1, 3, 4)
    figures = []
    for shape, levels in ((inside, [maps]), (border, [maps, flat])):
        moments = Moments.zeros(shape)
        nested = shape.nest(levels)
        moments.update(nested)
        gaussian = factorise(moments, Covariance.of(moments, 0.01, "none"))
        whitened = gaussian.whitened(nested)
        judged = shape.judged()
        scale = torch.rand(48, 30, generator=torch.Generator().manual_seed(3))
        scale = scale[torch.tensor(mask.ravel()).nonzero()[:, 0]]
        by_place = torch.zeros(shape.positions[0], 30)
        by_place[judged] = torch.empty_like(scale)
        for (y, x), row in zip(np.argwhere(mask), scale, strict=True):
            by_place[shape.index(0, y, x)] = row
        noise = Noise(5.0, measure_noise(whitened, by_place, judged))
        usual = torch.ones(shape.positions[0])
        mean = [level.mean(dim=-1) + 0.3 for level in nested[:1]]
        mean += [level.mean(dim=-1) for level in nested[1:]]
        drift, _ = measure_drift(mean, 10, gaussian, 30, noise, usual, judged)
        figures.append((noise.overlap, drift.drift))
    assert inside.positions[0] == mask.sum() < border.positions[0]
    np.testing.assert_allclose(figures[0], figures[1], rtol=1e-4)


def test_half_of_the_picture_has_half_of_the_numbers():
    shape = within(half())
    assert shape.share == 0.5
    assert shape.numbers == WHOLE.numbers / 2
    assert sum(shape.sizes) == sum(WHOLE.sizes) / 2
    with pytest.raises(IndexError, match=r"\(3, 9\) is outside the region of interest"):
        shape.index(0, 3, 9)


def test_a_specification_without_a_region_is_written_as_before():
    spec = EmbeddingSpec(
        TrunkSpec("resnet18", ("layer1",), ((1, 2),), (0,)),
        WHOLE,
        InputGeometry((64, 64), (48, 64)),
        "",
        "float32",
        8,
        "libjpeg",
    )
    assert set(spec.to_dict()["shape"]) == {"grids", "channels", "paper_order"}
    inside = spec.within(runs_of(half()))
    assert EmbeddingSpec.from_dict(inside.to_dict()) == inside
    assert EmbeddingSpec.from_dict(spec.to_dict()) == inside.within(None) == spec
