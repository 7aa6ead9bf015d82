"""Images and anomaly maps of a run, for pictures of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from padim_dist.api.settings.aligned import aligning_of
from padim_dist.api.settings.moved import move_since_id, moved_hint
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.api.settings.plans import reader_of
from padim_dist.api.sql.tables import open_table
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config
from padim_dist.core.align.pictures import in_picture
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.store.gaussians import Model
from padim_dist.store.manifests import read_shard
from padim_dist.store.runs.rows import SCORES, ScoreRow
from padim_dist.store.runs.run import Run

_SAMPLE = 16
"""Images of a group, with the lowest scores, that determine the start of its colour scale."""

Maps = npt.NDArray[np.float32]


class RunImages:
    """Reads the images and anomaly maps of a run.

    Parameters
    ----------
    config, run_id : Config, str
        Where the workspace and the archive are, and the run.

    Attributes
    ----------
    run, head, model : Run, RunHead, Model
        The run, its head, and the model that scored it.
    """

    def __init__(self, config: Config, run_id: str) -> None:
        self._config = config
        self.run = Run(workspace_of(config), run_id)
        self.head = self.run.head()
        self.model = Model(self.run.workspace, self.head.model_id)
        self._readers: dict[str, ImageReader] = {}

    @cached_property
    def reader(self) -> ImageReader:
        """Reader of its images."""
        if hint := moved_hint(self._config):
            logger.warning(hint)
        moved = move_since_id(self._config, self.head.snapshot)
        return reader_of(self._config, self.model.info.embedding, moved)

    @cached_property
    def whole_reader(self) -> ImageReader:
        """Reader of its images that resizes as the run did, without the crop."""
        return replace(self.reader, geometry=self.reader.geometry.whole)

    def reader_of(self, group: str) -> ImageReader:
        """Return the reader of a group's images as the model sees them: aligned, if it does so."""
        if group not in self._readers:
            info = self.model.info
            self._readers[group] = aligning_of(self.reader, self.run.workspace, info, group)
        return self._readers[group]

    @cached_property
    def has_heatmaps(self) -> bool:
        """Whether heatmaps were kept."""
        return self.run.heatmaps.exist()

    def manifest_rows(self, rows: Iterable[ScoreRow]) -> dict[str, ImageRow]:
        """Return the manifest rows behind score rows, by image_id."""
        wanted: dict[int, set[str]] = defaultdict(set)
        for row in rows:
            wanted[row.shard].add(row.image_id)
        found = {}
        for place, ids in wanted.items():
            table = read_shard(self.run.workspace, self.head.snapshot, self.head.shards[place])
            found.update({row.image_id: row for row in to_rows(table) if row.image_id in ids})
        return found

    def maps(self, rows: Sequence[int]) -> Maps:
        """Return anomaly maps of rows of the heatmap array, at the size of the crop: (n, H, W).

        They are NaN outside of the region of interest.
        """
        grids = self.run.heatmaps.read(rows)
        maps: Maps = self._anomaly_map.full_of_kept(torch.from_numpy(grids)).numpy()
        return maps

    def in_picture(self, heat: Maps, row: ScoreRow) -> Maps:
        """Return a row's map (H, W) as one of its resized picture, NaN where it is not seen."""
        geometry = self.model.info.embedding.geometry
        return in_picture(heat, geometry, geometry.resize, row.size, row.motion)

    def usual(self, groups: Sequence[str]) -> dict[str, float]:
        """Return where each group's colours start: a high distance in its lowest-scoring images."""
        scores = open_table(SCORES, [(self.run, self.head)]).filter("heatmap_row IS NOT NULL")
        rank = 'row_number() OVER (PARTITION BY "group" ORDER BY score) AS rank'
        dullest = scores.project(f'"group", heatmap_row, {rank}').filter(f"rank <= {_SAMPLE}")
        rows: dict[str, list[int]] = defaultdict(list)
        for group, row, _ in dullest.fetchall():
            rows[group].append(row)
        return {
            group: float(np.nanquantile(self.maps(sorted(rows[group])), 0.99))
            for group in groups
            if rows[group]
        }

    @cached_property
    def _anomaly_map(self) -> AnomalyMap:
        info = self.model.info
        grid = info.embedding.shape.grids[0]
        return AnomalyMap.build(grid, info.embedding.geometry.crop, info.sigma)
