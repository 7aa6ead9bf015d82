"""The accessor ``dataset.padim`` of heatmap datasets."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from padim_dist.core.heatmap import AnomalyMap


@xr.register_dataset_accessor("padim")
class HeatmapAccessor:
    """``dataset.padim``: full-size anomaly maps of a heatmap dataset."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def full(self) -> xr.DataArray:
        """Return full-size anomaly maps (row, y, x), float32, at the size of the crop.

        All selected rows are computed: choose the rows first, e.g. with ``isel``.
        """
        grid = self._dataset["distance"].transpose("row", "y", "x")
        attrs, (height, width) = self._dataset.attrs, grid.shape[1:]
        size = (attrs["height"], attrs["width"])
        anomaly_map = AnomalyMap.build((height, width), size, attrs["sigma"])
        maps = anomaly_map.full(torch.from_numpy(grid.values.astype(np.float32)))
        coords = {name: c for name, c in self._dataset.coords.items() if c.dims == ("row",)}
        return xr.DataArray(maps.numpy(), coords, ("row", "y", "x"), name="anomaly_map")
