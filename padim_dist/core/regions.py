"""Regions: connected parts of an anomaly map at or above a pixel threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EIGHT_NEIGHBOURS = np.ones((3, 3))
"""Pixels of a region touch, also at their corners."""


@dataclass(frozen=True)
class Region:
    """A region of an anomaly map, in pixels of the map.

    Attributes
    ----------
    area : int
        Number of pixels.
    box : (int, int, int, int)
        (top, left, bottom, right), half open.
    peak : float
        Maximum of the map in the region.
    place : (int, int)
        (y, x) of the peak.
    """

    area: int
    box: tuple[int, int, int, int]
    peak: float
    place: tuple[int, int]


def find_regions(anomaly_map: npt.NDArray[np.float32], level: float) -> list[Region]:
    """Return the 8-connected regions where a map (H, W) is >= `level`, highest peak first.

    Examples
    --------
    >>> a_map = np.zeros((4, 6), np.float32)
    >>> a_map[1:3, 1:3] = [[5, 1], [1, 6]]
    >>> find_regions(a_map, 4.0)
    [Region(area=2, box=(1, 1, 3, 3), peak=6.0, place=(2, 2))]
    """
    from scipy import ndimage  # 0.2 s, which the driver of a run need not wait for

    labels, _ = ndimage.label(anomaly_map >= level, EIGHT_NEIGHBOURS)
    regions = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[box] == number
        values = np.where(inside, anomaly_map[box], -np.inf)
        y, x = np.unravel_index(values.argmax(), values.shape)
        (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in box)
        area, peak, place = int(inside.sum()), float(values[y, x]), (top + int(y), left + int(x))
        regions.append(Region(area, (top, left, bottom, right), peak, place))
    return sorted(regions, key=lambda region: -region.peak)
