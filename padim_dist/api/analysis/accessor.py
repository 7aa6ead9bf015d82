"""The accessor ``dataset.padim`` of heatmap datasets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from padim_dist.core.align.motion import Motion
from padim_dist.core.align.pictures import in_picture
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.errors import RequestError
from padim_dist.store.runs.rows import motion_of

Pixels = npt.NDArray[np.int64]
MOTION = ("shift_y", "shift_x", "angle")
"""Coordinates of the images of a model that aligns them; None for one that was not aligned."""


@xr.register_dataset_accessor("padim")
class HeatmapAccessor:
    """``dataset.padim``: full-size anomaly maps of a heatmap dataset, and their places."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def full(self, original: bool = False) -> xr.DataArray:
        """Return anomaly maps (row, y, x), float32, at the size of the trunk's input.

        All selected rows are computed: choose the rows first, e.g. with ``isel``.

        Parameters
        ----------
        original : bool, optional
            At the size of the original image instead, and as it lies; NaN where the trunk does not
            see the image.

        Raises
        ------
        RequestError
            If `original` is asked for rows of images of different sizes.
        """
        grid = self._dataset["distance"].transpose("row", "y", "x")
        attrs, (height, width) = self._dataset.attrs, grid.shape[1:]
        anomaly_map = AnomalyMap.build((height, width), self._geometry.crop, attrs["sigma"])
        maps = anomaly_map.full_of_kept(torch.from_numpy(grid.values.astype(np.float32))).numpy()
        if original:
            size = self._one_size()
            found = np.empty((len(maps), *size), np.float32)
            for place, (one, motion) in enumerate(zip(maps, self._motions(), strict=True)):
                found[place] = in_picture(one, self._geometry, size, size, motion)
            maps = found
        coords = {name: c for name, c in self._dataset.coords.items() if c.dims == ("row",)}
        return xr.DataArray(maps, coords, ("row", "y", "x"), name="anomaly_map")

    def to_original(self, y: npt.ArrayLike, x: npt.ArrayLike) -> tuple[Pixels, Pixels]:
        """Return the pixels of the originals for pixels (y, x) of the maps of ``full()``.

        Parameters
        ----------
        y, x : int or array
            One for each selected row, or one for all rows.

        Returns
        -------
        rows, columns : array
            int64, one for each selected row.

        Examples
        --------
        >>> maps = dataset.isel(row=[7]).padim.full()[0]          # doctest: +SKIP
        >>> peak = np.unravel_index(maps.argmax(), maps.shape)    # doctest: +SKIP
        >>> dataset.isel(row=[7]).padim.to_original(*peak)        # doctest: +SKIP
        (array([311]), array([274]))
        """
        sizes = self._sizes()
        ys, xs = (np.broadcast_to(np.asarray(one), len(sizes)).tolist() for one in (y, x))
        places = [
            self._geometry.to_original(one_y, one_x, *size, motion)
            for one_y, one_x, size, motion in zip(ys, xs, sizes, self._motions(), strict=True)
        ]
        rows, columns = np.array(places, np.int64).reshape(-1, 2).T
        return rows, columns

    @property
    def _geometry(self) -> InputGeometry:
        attrs = self._dataset.attrs
        height, width = attrs["resize"]
        return InputGeometry((height, width), (attrs["height"], attrs["width"]))

    def _sizes(self) -> list[tuple[int, int]]:
        heights, widths = (
            np.atleast_1d(self._dataset[f"image_{side}"].values).astype(int).tolist()
            for side in ("height", "width")
        )
        return list(zip(heights, widths, strict=True))

    def _motions(self) -> list[Motion | None]:
        if MOTION[0] not in self._dataset.coords:
            return [None] * len(self._sizes())
        columns = (np.atleast_1d(self._dataset[name].values).tolist() for name in MOTION)
        return [motion_of(*values) for values in zip(*columns, strict=True)]

    def _one_size(self) -> tuple[int, int]:
        sizes = sorted(set(self._sizes()))
        if len(sizes) != 1:
            found = ", ".join(f"{height}x{width}" for height, width in sizes) or "none"
            raise RequestError(
                f"maps at the size of the original need rows of images of one size; found {found}. "
                "Choose rows of one size, e.g. with isel(row=[7])"
            )
        return sizes[0]
