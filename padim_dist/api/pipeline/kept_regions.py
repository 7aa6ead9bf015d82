"""Regions of images that were not flagged while they were scored, from kept heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from padim_dist.core.heatmap import AnomalyMap
from padim_dist.engine.regions import region_rows
from padim_dist.events import Listener, Progress
from padim_dist.store.calibrations import KeptCalibration, read_calibration
from padim_dist.store.gaussians import Model
from padim_dist.store.normals import Members, read_members
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow, ScoreRow
from padim_dist.store.runs.run import Run

_BATCH = 256


def find_kept_regions(
    run: Run, head: RunHead, rows: Sequence[ScoreRow], listener: Listener
) -> list[RegionRow]:
    """Return the regions of scored images with a p-value and a kept heatmap.

    Raises
    ------
    RequestError
        If the model of the run is gone.
    """
    info = Model(run.workspace, head.model_id).info
    geometry, sigma = info.embedding.geometry, info.sigma
    anomaly_map = AnomalyMap.build(info.embedding.shape.grids[0], geometry.crop, sigma)
    calibrations: dict[str | None, KeptCalibration | None] = {}
    members: dict[str | None, Members] = {}
    regions: list[RegionRow] = []
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        listener(Progress("judge: regions", len(rows), start))
        grids = run.heatmaps.read([row.heatmap_row for row in some if row.heatmap_row is not None])
        maps = anomaly_map.full_of_kept(torch.from_numpy(grids)).numpy()
        for row, full in zip(some, maps, strict=True):
            if row.group not in calibrations:
                assert row.group is not None
                where = (run.workspace, head.model_id, row.group)
                calibrations[row.group] = read_calibration(*where)
                if row.left_out is not None:
                    members[row.group] = read_members(*where)
            if kept := calibrations[row.group]:
                alpha, own = head.pixel_alpha, np.nan
                if row.left_out:
                    own = members[row.group].find([row.image_id], [row.etag])[1][0]
                regions += region_rows(row, full, kept.calibration, alpha, geometry, own)
    listener(Progress("judge: regions", len(rows), len(rows)))
    return regions
