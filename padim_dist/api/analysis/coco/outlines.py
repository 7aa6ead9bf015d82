"""Outlines of regions as polygons, from kept heatmaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator
from scipy import ndimage

from padim_dist.api.analysis.coco.file import MarkedImage
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.config import Config
from padim_dist.core.align.motion import Motion
from padim_dist.core.calibration import Calibration
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.regions import EIGHT_NEIGHBOURS, Region, find_regions
from padim_dist.errors import RequestError
from padim_dist.pages.words import counted
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow

_BATCH = 64
"""Images whose heatmaps are read together."""
Ring = npt.NDArray[np.float64]
"""Corners (x, y) of a closed line, shape (n, 2); the last one is the first again."""


@dataclass(frozen=True)
class Outline:
    """Polygons around a region, in pixels of the original image; pixel i covers i to i + 1.

    Attributes
    ----------
    rings : sequence of array
        Closed lines (x, y), shape (n, 2). A hole is joined to the line around it by a slit.
    area : float
        Area inside, without holes.
    """

    rings: Sequence[Ring]
    area: float

    @classmethod
    def of_box(cls, left: float, top: float, right: float, bottom: float) -> Outline:
        """Return the outline of a box."""
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return cls([np.array(corners, np.float64)], (right - left) * (bottom - top))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Smallest box around it: left, top, right, bottom."""
        every = np.concatenate(self.rings)
        (left, top), (right, bottom) = every.min(axis=0), every.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def outline_regions(
    anomaly_map: npt.NDArray[np.float32],
    level: float,
    geometry: InputGeometry,
    size: tuple[int, int],
    motion: Motion | None = None,
) -> list[tuple[tuple[int, int], Outline]]:
    """Return place of the peak and outline of each region of a map, highest peak first.

    The outline is the line where the map, interpolated between the centres of its pixels, is
    `level`. So its area is close to that of the region's pixels, but not equal. A region too small
    for such a line has the outline of its box.

    Parameters
    ----------
    anomaly_map : array
        (H, W), at the size of the crop.
    level : float
        Threshold of the regions; see `padim_dist.core.regions.find_regions`.
    geometry : InputGeometry
        Resize and crop of the original.
    size : (int, int)
        Height and width of the original.
    motion : Motion, optional
        How it lies, if it was aligned.

    Returns
    -------
    list of ((int, int), Outline)
        The peak's row and column, and the outline, both in pixels of the original.
    """
    labels, _ = ndimage.label(anomaly_map >= level, EIGHT_NEIGHBOURS)
    if (outside := np.isnan(anomaly_map)).any():
        # At the border of the region of interest it goes on as at the edge of the map.
        y, x = ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
        values = np.pad(anomaly_map[y, x].astype(np.float64), 1, mode="edge")
    else:
        values = np.pad(anomaly_map.astype(np.float64), 1, mode="edge")
    labels = np.pad(labels, 1)
    found = []
    for region in find_regions(anomaly_map, level):
        traced = _trace(values, labels, level, region)
        outline = _to_original(traced, geometry, size, motion)
        if outline.area < 0.5 * region.area * geometry.pixels_a_pixel(*size):
            top, left, bottom, right = geometry.box_to_original(region.box, *size, motion)
            outline = Outline.of_box(left, top, right, bottom)
        found.append((geometry.to_original(*region.place, *size, motion), outline))
    return found


def _trace(
    values: npt.NDArray[np.float64], labels: npt.NDArray[np.int32], level: float, region: Region
) -> Outline:
    """Return the outline of a region in pixels of the map; map and labels are padded by one."""
    (top, left, bottom, right), (y, x) = region.box, region.place
    around = np.s_[top : bottom + 2, left : right + 2]
    inside, near = labels[around] == labels[y + 1, x + 1], values[around]
    # Outside the map it goes on mirrored at the level, so that the line is on the edge of the map.
    # Other regions are mirrored too: they have outlines of their own.
    generator = contour_generator(
        x=np.arange(left - 0.5, right + 1),
        y=np.arange(top - 0.5, bottom + 1),
        z=np.where(inside, near, np.minimum(near, 2 * level - near)),
        fill_type=FillType.OuterOffset,
    )
    # The level itself is inside.
    filled: Any = generator.filled(np.nextafter(level, -np.inf), np.inf)
    rings, area = [], 0.0
    for points, offsets in zip(*filled, strict=True):
        outer, *holes = np.split(points, offsets[1:-1].astype(int))
        area += _area(outer) - sum(map(_area, holes))
        for hole in holes:
            outer = _join(outer, hole)
        rings.append(outer)
    return Outline(rings, area)


def _join(ring: Ring, hole: Ring) -> Ring:
    """Return a ring that goes round a hole too, by a slit where the two are closest."""
    gaps = np.square(ring[:, None] - hole[None]).sum(axis=-1)
    i, j = np.unravel_index(gaps.argmin(), gaps.shape)
    around = np.concatenate([hole[j:], hole[1 : j + 1]])  # closed, from j to j
    return np.concatenate([ring[: i + 1], around, ring[i:]])


def _area(ring: Ring) -> float:
    """Return the area inside a ring."""
    x, y = (ring - ring[0]).T
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)


def _to_original(
    outline: Outline, geometry: InputGeometry, size: tuple[int, int], motion: Motion | None
) -> Outline:
    """Return an outline in pixels of the original, which is never left."""
    (height, width), (top, left) = size, geometry.offset
    scale = np.array([width / geometry.resize[1], height / geometry.resize[0]])
    moved = [ring + np.array([left, top]) for ring in outline.rings]
    if motion:
        (a, b, c), (d, e, f) = motion.affine(geometry.resize, size)
        moved = [ring @ np.array([[e, b], [d, a]]) + np.array([f, c]) for ring in moved]
    moved = [ring * scale for ring in moved]
    inside = [ring.clip(0, (width, height)) for ring in moved]
    return Outline(inside, outline.area * float(scale.prod()))


class RegionTracer:
    """Finds the outlines of a run's regions in its heatmaps; without heatmaps they are boxes.

    Parameters
    ----------
    config, head : Config, RunHead
        Where the workspace is, and the run.

    Attributes
    ----------
    notes : list of str
        Which outlines are boxes, and why.
    """

    def __init__(self, config: Config, head: RunHead) -> None:
        self._head, self._calibrations = head, dict[str, Calibration | None]()
        self._run: RunImages | None = None
        self.notes: list[str] = []
        try:
            run = RunImages(config, head.run_id)
        except RequestError as error:  # its model is gone
            self.notes = [f"outlines are boxes: {error}"]
            return
        if why := run.run.why_no_heatmaps():
            self.notes = [f"outlines are boxes: {why}"]
        else:
            self._run = run

    def trace(
        self, images: Iterator[MarkedImage]
    ) -> Iterator[tuple[MarkedImage, RegionRow, Outline]]:
        """Yield each region of images with its outline, in order."""
        lost = 0
        while some := list(islice(images, _BATCH)):
            for image, outlines in zip(some, self._read(some), strict=True):
                for region in image.regions:
                    outline = _closest(outlines, region)
                    lost += bool(outlines) and outline is None
                    box = (region.left, region.top, region.right, region.bottom)
                    yield image, region, outline or Outline.of_box(*box)
        if lost:
            self.notes.append(
                f"{counted(lost, 'outline')} are boxes: their regions are not in the heatmaps"
            )

    def _read(self, images: Sequence[MarkedImage]) -> list[list[tuple[tuple[int, int], Outline]]]:
        """Return place and outline of the regions of each image; none without a heatmap."""
        rows = [image.heatmap_row for image in images if image.heatmap_row is not None]
        if self._run is None or not rows:
            return [[] for _ in images]
        maps = iter(self._run.maps(rows))
        found: list[list[tuple[tuple[int, int], Outline]]] = []
        for image in images:
            calibration = self._calibration(str(image.regions[0].group))
            if image.heatmap_row is None:
                found.append([])
                continue
            full = next(maps)
            level = float(np.nanmax(full))
            if calibration:
                level = min(calibration.pixel_threshold(self._head.pixel_alpha), level)
            geometry = self._run.model.info.embedding.geometry
            found.append(
                outline_regions(full, level, geometry, (image.height, image.width), image.motion)
            )
        return found

    def _calibration(self, group: str) -> Calibration | None:
        assert self._run is not None
        if group not in self._calibrations:
            self._calibrations[group] = self._run.model.calibration(group)
        return self._calibrations[group]


def _closest(
    outlines: Iterable[tuple[tuple[int, int], Outline]], region: RegionRow
) -> Outline | None:
    """Return the outline whose peak is closest to that of a region, if it is in the region's box.

    Heatmaps are kept in float16, so a peak may be a pixel away.
    """

    def gap(found: tuple[tuple[int, int], Outline]) -> int:
        (y, x), _ = found
        return abs(y - region.peak_y) + abs(x - region.peak_x)

    best = min(outlines, key=gap, default=None)
    if best is None:
        return None
    (y, x), outline = best
    is_in = region.top <= y < region.bottom and region.left <= x < region.right
    return outline if is_in else None
