from __future__ import annotations

import pytest
import torch

from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import ConfigError


def test_nested_order_views_as_coarser_rows():
    """A fine level viewed as rows of the coarse one has the positions of a cell in its row."""
    shape = PyramidShape(((4, 6), (2, 2)), (1, 1))
    fine = torch.arange(24.0).reshape(1, 1, 4, 6)
    nested = shape.nest([fine, torch.zeros(1, 1, 2, 2)])[0]
    rows = nested.view(4, 6)
    assert rows[1].tolist() == [3, 4, 5, 9, 10, 11]  # upper right cell: rows 0-1, columns 3-5
    assert torch.equal(shape.unnest(nested[:, 0]), fine[0])


def test_index_follows_a_patch_through_the_levels():
    shape = PyramidShape(((8, 8), (4, 4), (2, 2)), (1, 1, 1))
    for y in range(8):
        for x in range(8):
            fine, middle, coarse = (shape.index(level, y, x) for level in range(3))
            assert fine // 4 == middle
            assert middle // 4 == coarse
            assert shape._order(0, torch.device("cpu"))[fine] == y * 8 + x
    with pytest.raises(IndexError, match=r"patch \(8, 0\) is outside the patch grid 8x8"):
        shape.index(0, 8, 0)


@pytest.mark.parametrize(
    ("grids", "channels", "message"),
    [
        (((5, 4), (2, 2)), (1, 1), "grid 2x2 does not divide grid 5x4"),
        (((4, 4), (2, 2)), (1, 0), "at least one channel"),
        (((4, 4),), (1, 1), "one channel count per grid"),
    ],
)
def test_wrong_shapes_are_named(grids, channels, message):
    with pytest.raises(ConfigError, match=message):
        PyramidShape(grids, channels)


def test_numbers_of_the_paper_settings():
    """ResNet-18 with d=100: about a quarter of the dense 31.7 million numbers."""
    shape = PyramidShape(((56, 56), (28, 28), (14, 14)), (13, 29, 58))
    dense = 56 * 56 * (100 * 100 + 100)
    assert 4.0 < dense / shape.numbers < 5.0
