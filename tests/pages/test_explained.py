"""The picture that explains a score, for images of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.core.geometry import window_around
from padim_dist.pages.explained import Bar, Explained, explanation


@pytest.mark.parametrize("size", [(60, 80), (400, 40), (40, 400), (1, 1)])
@pytest.mark.parametrize("normal", [None, (30, 70)])
def test_images_of_any_shape(size, normal):
    height, width = size
    box = (height // 4, width // 4, height // 4 + 1, width // 4 + 1)
    long = "a very long name of a folder/" * 9
    shown = Explained(
        title=long,
        name=long,
        pixels=np.zeros((height, width, 3), np.uint8),
        heat=np.ones((16, 16), np.float32),
        box=box,
        window=window_around(box, size),
        normal=None if normal is None else np.full((*normal, 3), 255, np.uint8),
        normal_name=long,
        bars=[Bar(long, 5.0, 2.0), Bar("coarse", -0.1, None)],
    )
    picture = np.asarray(explanation(shown))
    assert picture.shape[1] == 1128
    assert (picture[:, :11] == 250).all()  # nothing is drawn in the margins
    assert (picture[:, -11:] == 250).all()
    dark = (picture[64:, 12:372] == 0).all(axis=-1).any()
    light = (picture[64:, 756:1116] == 255).all(axis=-1).any()
    assert dark
    assert light == (normal is not None)


@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2, *[st.floats(0, 1)] * 2),
)
def test_a_window_has_the_box_in_it(height, width, shares):
    top, left = int(shares[0] * height), int(shares[1] * width)
    bottom = top + 1 + int(shares[2] * (height - top - 1))
    right = left + 1 + int(shares[3] * (width - left - 1))
    window = window_around((top, left, bottom, right), (height, width))
    assert 0 <= window[0] <= top < bottom <= window[2] <= height
    assert 0 <= window[1] <= left < right <= window[3] <= width
    sides = window[2] - window[0], window[3] - window[1]
    assert sides[0] == sides[1] or height in sides[:1] or width in sides[1:]
