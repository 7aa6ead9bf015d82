"""Images and anomaly maps of a run, for pictures of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from padim_dist.api.analysis.readers import open_scores
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.settings.plans import reader_of
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.config import Config
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.storage import Options
from padim_dist.store.manifests import read_shard
from padim_dist.store.models import Model
from padim_dist.store.run import read_heatmaps

_SAMPLE = 16
"""Heatmaps of a group that say what is usual in it."""

Maps = npt.NDArray[np.float32]


class RunImages:
    """What a run's rows stand for.

    Parameters
    ----------
    config : Config
        Says where the workspace and the archive are, and how to reach them.
    run_id : str
        The run; kept as an attribute.

    Attributes
    ----------
    workspace : Workspace
        Where it lies.
    head : dict
        The run's ``run.json``.
    model : Model
        What it was scored with.
    """

    def __init__(self, config: Config, run_id: str) -> None:
        self.workspace = workspace = workspace_of(config)
        self.run_id = run_id
        self._config = config
        self._folder = workspace.folder
        self._run = workspace.run(run_id)
        self.head: dict[str, Any] = self._folder.read_json(f"{self._run}/run.json")
        self.model = Model(self._folder, workspace.model(self.head["model_id"]))

    @property
    def url(self) -> str:
        """Where the run lies."""
        return self._folder.at(self._run)

    @property
    def options(self) -> Options:
        """How the run is reached."""
        return self._config.storage_options

    @cached_property
    def reader(self) -> ImageReader:
        """Reads its images."""
        return reader_of(self._config, self.model.info.embedding.geometry)

    @cached_property
    def has_heatmaps(self) -> bool:
        """Whether they were kept."""
        return self._folder.exists(f"{self._run}/heatmaps.zarr")

    def manifest_rows(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Rows of the manifest behind rows of the score table, by image_id."""
        wanted: dict[int, set[str]] = defaultdict(set)
        for row in rows:
            wanted[row["shard"]].add(row["image_id"])
        found = {}
        for place, ids in wanted.items():
            shard = read_shard(self._folder, self.head["snapshot"], self.head["shards"][place])
            found.update({row["image_id"]: row for row in shard if row["image_id"] in ids})
        return found

    def maps(self, rows: Sequence[int]) -> Maps:
        """Anomaly maps of rows of the heatmap array, at the size of the crop: (n, H, W)."""
        grids = read_heatmaps(self._folder, self._run, rows)
        maps: Maps = self._anomaly_map.full(torch.from_numpy(grids)).numpy()
        return maps

    def usual(self, groups: Sequence[str]) -> dict[str, float]:
        """Distances at which the colours of groups begin: the highest of their dullest images."""
        scores = open_scores(self.url, self.options)
        dullest = scores.query(
            "scores",
            'SELECT "group", heatmap_row FROM scores WHERE heatmap_row IS NOT NULL '
            f'QUALIFY row_number() OVER (PARTITION BY "group" ORDER BY score) <= {_SAMPLE}',
        )
        assert dullest is not None  # it is a SELECT
        rows: dict[str, list[int]] = defaultdict(list)
        for group, row in dullest.fetchall():
            rows[group].append(row)
        return {
            group: float(np.quantile(self.maps(sorted(rows[group])), 0.99))
            for group in groups
            if rows[group]
        }

    @cached_property
    def _anomaly_map(self) -> AnomalyMap:
        info = self.model.info
        grid = info.embedding.shape.grids[0]
        return AnomalyMap.build(grid, info.embedding.geometry.crop, info.sigma)
