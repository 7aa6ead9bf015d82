"""The anomaly map, compared with up-sampling and filtering in two steps."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap, find_peaks


@given(
    st.tuples(st.integers(3, 20), st.integers(3, 20)),
    st.tuples(st.integers(20, 70), st.integers(20, 70)),
    st.floats(0.5, 6),
)
def test_map_is_bicubic_then_gaussian(grid, size, sigma):
    distances = torch.rand(2, *grid, dtype=torch.float64) * 30
    up = functional.interpolate(distances[:, None], size=size, mode="bicubic", align_corners=False)
    wanted = np.stack([gaussian_filter(m, sigma, truncate=4.0) for m in up[:, 0].numpy()])
    found = AnomalyMap.build(grid, size, sigma).full(distances.float())
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_score_is_the_peak_of_the_map():
    anomaly_map = AnomalyMap.build((8, 12), (64, 96), 2.0)
    distances = torch.rand(5, 8, 12)
    maps = anomaly_map.full(distances)
    scores, peaks = find_peaks(maps)
    for map_, score, (y, x) in zip(maps, scores, peaks.tolist(), strict=True):
        assert score == map_.max() == map_[y, x]


def test_peak_is_mapped_back_through_crop_and_resize():
    """A pixel of the original is mapped to the crop and back to itself."""
    geometry = InputGeometry((128, 256), (96, 200))
    for y, x in [(40, 70), (300, 333), (100, 512)]:
        height, width = 400, 640
        crop_y = round((y + 0.5) * 128 / height - 0.5) - geometry.offset[0]
        crop_x = round((x + 0.5) * 256 / width - 0.5) - geometry.offset[1]
        back = geometry.to_original(crop_y, crop_x, height, width)
        assert abs(back[0] - y) <= height / 128
        assert abs(back[1] - x) <= width / 256
    assert geometry.to_original(0, 0, 1, 1) == (0, 0)


def test_no_smoothing_and_mirrored_edges():
    flat = torch.full((1, 6, 6), 3.0)
    for sigma in (0.0, 9.0):  # the kernel crosses both edges
        full = AnomalyMap.build((6, 6), (24, 24), sigma).full(flat)
        torch.testing.assert_close(full, torch.full((1, 24, 24), 3.0))
