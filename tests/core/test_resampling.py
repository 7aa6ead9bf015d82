"""Resize has the same grey levels, bit for bit, as PyTorch's resize of uint8 on a CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from padim_dist.core.geometry import InputGeometry
from padim_dist.core.resampling import cubic_weights, resize_and_crop

SIDES = st.integers(1, 700)
RESIZED = st.integers(2, 700)  # one pixel wide: an assertion inside PyTorch fails


def by_torchvision(pixels: torch.Tensor, geometry: InputGeometry) -> torch.Tensor:
    resized = resize(
        pixels, list(geometry.resize), interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    (top, left), (height, width) = geometry.offset, geometry.crop
    return resized[..., top : top + height, left : left + width]


@settings(deadline=None, max_examples=60)
@given(st.tuples(SIDES, SIDES), st.tuples(RESIZED, RESIZED), st.integers(0, 5), st.booleans())
def test_grey_levels_are_those_of_pytorch_on_a_cpu(size, resized, cut, black_and_white):
    crop = (max(1, resized[0] - cut), max(1, resized[1] - 2 * cut))
    geometry = InputGeometry(resized, crop)
    generator = torch.Generator().manual_seed(size[0] * 1000 + size[1])
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)
    if black_and_white:  # the kernel then overshoots on both sides
        pixels = (pixels > 127).to(torch.uint8) * 255
    assert torch.equal(resize_and_crop(pixels, geometry), by_torchvision(pixels, geometry))


@pytest.mark.parametrize(("size", "resized"), [(5472, 256), (4000, 224), (64, 1024)])
def test_large_scale_factors(size, resized):
    geometry = InputGeometry((resized, resized), (resized, resized))
    generator = torch.Generator().manual_seed(size)
    pixels = torch.randint(0, 256, (1, 3, size, 40), dtype=torch.uint8, generator=generator)
    assert torch.equal(resize_and_crop(pixels, geometry), by_torchvision(pixels, geometry))


def test_weights_are_integers_with_a_sum_near_one():
    weights, bits = cubic_weights(512, 256)
    assert torch.equal(weights, weights.round())
    assert (weights.sum(dim=1) / 2**bits - 1).abs().max() < 1e-3
    assert weights.abs().max() < 2**15
