"""Pictures stay within their size limit."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from padim_dist.pages.encode import (
    HEAT_BYTES,
    MASK_BYTES,
    PICTURE_BYTES,
    SMALL_BYTES,
    SMALL_SIDE,
    encode,
)
from padim_dist.pages.heat import HeatScale, heat_layer
from padim_dist.pages.html import render
from tests.pages.samples import anomaly, sample


def noise(height: int, width: int) -> Image.Image:
    """Return noise, which compresses worst."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("shape", [(700, 900), (512, 512), (40, 3000), (1, 1)])
@pytest.mark.parametrize("most", [PICTURE_BYTES, HEAT_BYTES, 5000])
def test_noise_fits(shape, most):
    data = encode(noise(*shape), most)
    assert len(data) <= most
    made = Image.open(io.BytesIO(data))
    assert max(made.size) <= 512


@pytest.mark.parametrize("threshold", [0.0, 5e-324, 1e-9, 20.0, None])
@pytest.mark.parametrize("usual", [0.0, 5.0, 50.0])
def test_the_colours_of_any_group_grow_with_the_distance(threshold, usual):
    scale = HeatScale.of(usual, threshold, high=0.0, highest=40.0)
    distances = np.array([np.nan, 0.0, 1e-9, 1.0, 10.0, 20.0, 40.0, 1e6], np.float32)
    shares = scale.shares(distances)
    assert np.isnan(shares[0])
    assert shares[1] == 0
    assert shares[-1] == 1
    assert (np.diff(shares[1:]) >= 0).all()
    assert scale.shares(np.array([scale.middle]))[0] == pytest.approx(0.5, abs=1e-3)
    assert scale.is_threshold == (threshold is not None)


def test_what_is_not_judged_is_grey_whatever_is_beside_it():
    layer = heat_layer(np.array([[0.0, np.nan, 1.0]]))
    assert layer.getpixel((0, 0))[3] == 0
    red, green, blue, alpha = layer.getpixel((1, 0))
    assert red == green == blue
    assert 128 < alpha < 255
    assert layer.getpixel((2, 0)) == heat_layer(np.array([[1.0]])).getpixel((0, 0))


def test_noise_as_heat_fits():
    rng = np.random.default_rng(0)
    data = encode(heat_layer(rng.random((512, 512))), HEAT_BYTES)
    assert len(data) <= HEAT_BYTES
    assert Image.open(io.BytesIO(data)).mode == "RGBA"


def test_an_easy_picture_is_not_made_smaller():
    y, x = np.mgrid[:300, :512]
    smooth = np.stack([x / 2, y / 2, x / 4 + y / 4], -1).astype(np.uint8)
    made = Image.open(io.BytesIO(encode(Image.fromarray(smooth), PICTURE_BYTES)))
    assert made.size == (512, 300)
    assert np.abs(np.asarray(made.convert("RGB"), int) - smooth).mean() < 3


def test_two_hundred_of_the_worst_are_less_than_ten_megabytes():
    heat, truth = encode(noise(224, 224), HEAT_BYTES), encode(noise(224, 224), MASK_BYTES)
    picture = encode(noise(700, 900), PICTURE_BYTES - len(truth))
    small = encode(noise(700, 900), SMALL_BYTES, SMALL_SIDE)
    regions = 20 * list(anomaly(0).regions)
    own = {"picture": picture, "heat": heat, "mask": truth, "regions": regions}
    items = [anomaly(i, uri="/data/" + 200 * "n", **own) for i in range(200)]
    data = sample(anomalies=items)
    data = replace(
        data,
        drift=[replace(data.drift[0], picture=small)] * 12,
        suspects=[replace(data.suspects[0], picture=small)] * 24,
    )
    assert len(render(data, "0.0").encode()) <= 10_000_000
