"""Regions of a scored image as rows of the table of regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from padim_dist.core.calibration import Calibration
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.regions import Region, find_regions
from padim_dist.store.runs.rows import RegionRow, ScoreRow

_COPIED = ("image_id", "uri", "member", "group", "label", "shard", "run_id", "model_id")


def region_rows(
    row: ScoreRow,
    anomaly_map: npt.NDArray[np.float32],
    calibration: Calibration,
    pixel_alpha: float,
    geometry: InputGeometry,
    own: float = np.nan,
) -> list[RegionRow]:
    """Return the regions of an image, the one with the highest peak first.

    Parameters
    ----------
    row : ScoreRow
        The scored image.
    anomaly_map : array
        Its anomaly map of the kept heatmap, float32, shape (H, W); NaN outside of the region of
        interest.
    calibration : Calibration
        Calibration of its group.
    pixel_alpha : float
        A region is where the map is at least the threshold that this share of normal pixels
        exceeds. The peak of the image is always in a region.
    geometry : InputGeometry
        From pixels of the map to those of the original.
    own : float, optional
        Score of the image in the calibration sample; NaN if it is not in it.
    """
    level = min(calibration.pixel_threshold(pixel_alpha), float(np.nanmax(anomaly_map)))
    found = find_regions(anomaly_map, level)
    p_values, _ = calibration.p_values([region.peak for region in found], own)
    return [
        _row(row, number, region, float(p), geometry)
        for number, (region, p) in enumerate(zip(found, p_values, strict=True), 1)
    ]


def _row(
    row: ScoreRow, number: int, region: Region, p_value: float, geometry: InputGeometry
) -> RegionRow:
    top, left, bottom, right = geometry.box_to_original(region.box, *row.size, row.motion)
    y, x = geometry.to_original(*region.place, *row.size, row.motion)
    return RegionRow(
        **{name: getattr(row, name) for name in _COPIED},
        region=number,
        area=round(region.area * geometry.pixels_a_pixel(*row.size)),
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        peak=region.peak,
        peak_y=y,
        peak_x=x,
        p_value=p_value,
    )
