"""Regions, compared with a flood fill; boxes, with the pixels that they cover."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from padim_dist.core.geometry import InputGeometry
from padim_dist.core.regions import find_regions


def flood(inside: np.ndarray) -> list[set[tuple[int, int]]]:
    """Return the parts of a mask whose pixels touch, also at their corners."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(inside)), strict=True))
    found = []
    while left:
        part, queue = set(), [left.pop()]
        while queue:
            y, x = queue.pop()
            part.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue += near
        found.append(part)
    return found


@given(arrays(np.float32, (9, 11), elements=st.integers(0, 5)), st.floats(0.5, 5))
def test_regions_are_those_of_a_flood_fill(values, level):
    wanted = flood(values >= level)
    found = find_regions(values, level)
    assert sorted(r.area for r in found) == sorted(map(len, wanted))
    assert [r.peak for r in found] == sorted((r.peak for r in found), reverse=True)
    by_place = {pixel: part for part in wanted for pixel in part}
    for region in found:
        part = by_place[region.place]
        ys, xs = [y for y, _ in part], [x for _, x in part]
        assert region.box == (min(ys), min(xs), max(ys) + 1, max(xs) + 1)
        assert region.peak == max(values[pixel] for pixel in part) == values[region.place]


@given(
    st.tuples(st.integers(0, 95), st.integers(0, 199), st.integers(1, 96), st.integers(1, 200)),
    st.integers(50, 900),
    st.integers(50, 900),
)
def test_a_box_covers_its_peak(box, height, width):
    top, left, bottom, right = box
    if top >= bottom or left >= right:
        return
    geometry = InputGeometry((128, 256), (96, 200))
    found = geometry.box_to_original(box, height, width)
    assert 0 <= found[0] < found[2] <= height
    assert 0 <= found[1] < found[3] <= width
    for y, x in ((top, left), (bottom - 1, right - 1)):
        peak = geometry.to_original(y, x, height, width)
        assert found[0] <= peak[0] < found[2]
        assert found[1] <= peak[1] < found[3]
