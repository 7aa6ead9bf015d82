"""Pictures of the highest scores, drawn from the archive's images and a run's heatmaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from padim_dist.api.common import reader_of
from padim_dist.api.places import logger, workspace_of
from padim_dist.api.readers import open_scores
from padim_dist.config import Config
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.errors import ImageError, PadimDistError
from padim_dist.pages.sheet import SheetItem, contact_sheet
from padim_dist.store.manifests import read_shard
from padim_dist.store.models import Model, ModelInfo
from padim_dist.store.runs import read_heatmaps

_SAMPLE = 16
"""Heatmaps of a group that say what is usual in it."""


def draw_top(config: Config, rows: Sequence[Mapping[str, Any]]) -> Image.Image | None:
    """Draw images, their heat, and their masks where there are any.

    Parameters
    ----------
    config : Config
        The configuration that scored them.
    rows : sequence of mapping
        Of score tables, in the order to draw.

    Returns
    -------
    PIL.Image.Image or None
        None where no heatmaps were kept, or no image can be read any more.
    """
    usual: dict[tuple[str, str], float] = {}
    items = []
    for row in rows:
        if row["heatmap_row"] is None:
            continue
        scale = row["run_id"], row["group"]
        if scale not in usual:
            usual[scale] = _usual(config, *scale)
        try:
            items.append(_item(config, row, usual[scale]))
        except (PadimDistError, OSError) as error:
            logger.warning("%s is left out of the picture: %s", row["uri"], error)
    return contact_sheet(items) if items else None


def _item(config: Config, row: Mapping[str, Any], usual: float) -> SheetItem:
    image = _manifest_row(config, row)
    reader = reader_of(config, config.model.geometry)
    loaded = reader.load(image)
    if loaded.pixels is None:
        raise ImageError(loaded.status, str(loaded.error))
    mask = reader.load_mask(image["mask_uri"]).numpy() if image["mask_uri"] else None
    (heat,) = _maps(config, row["run_id"], [row["heatmap_row"]])
    name = row["member"] or PurePosixPath(row["uri"]).name
    return SheetItem(
        pixels=loaded.pixels.permute(1, 2, 0).numpy(),
        heat=((heat - usual) / max(float(row["score"]) - usual, 1e-6)).astype(np.float32),
        mask=mask,
        title=f"{row['group']}: {row['label']}" if row["label"] else row["group"],
        subtitle=f"score {row['score']:.1f}, peak at ({row['peak_y']}, {row['peak_x']}), {name}",
    )


def _usual(config: Config, run_id: str, group: str) -> float:
    """Distance at which the colours of a group begin: the highest of its dullest images."""
    dull = (
        open_scores(_run(config, run_id), config.storage_options)
        .filter(f"heatmap_row IS NOT NULL AND \"group\" = '{group.replace(chr(39), chr(39) * 2)}'")
        .order("score")
        .limit(_SAMPLE)
        .project("heatmap_row")
        .fetchall()
    )
    return float(np.quantile(_maps(config, run_id, sorted(row for (row,) in dull)), 0.99))


def _maps(config: Config, run_id: str, rows: Sequence[int]) -> npt.NDArray[np.float32]:
    """Anomaly maps of the size of the crop, (n, H, W)."""
    workspace = workspace_of(config)
    grids = read_heatmaps(workspace.folder, workspace.run(run_id), rows)
    model = _model(config, run_id)
    height, width = grids.shape[1:]
    anomaly_map = AnomalyMap.build((height, width), model.embedding.geometry.crop, model.sigma)
    maps: npt.NDArray[np.float32] = anomaly_map.full(torch.from_numpy(grids)).numpy()
    return maps


def _model(config: Config, run_id: str) -> ModelInfo:
    workspace = workspace_of(config)
    head = workspace.folder.read_json(f"{workspace.run(run_id)}/run.json")
    return Model(workspace.folder, workspace.model(head["model_id"])).info


def _manifest_row(config: Config, row: Mapping[str, Any]) -> dict[str, Any]:
    """An image's row in the manifest that its run is of."""
    workspace = workspace_of(config)
    head = workspace.folder.read_json(f"{workspace.run(row['run_id'])}/run.json")
    shard = head["shards"][row["shard"]]
    rows = read_shard(workspace.folder, head["snapshot"], shard)
    return next(image for image in rows if image["image_id"] == row["image_id"])


def _run(config: Config, run_id: str) -> str:
    workspace = workspace_of(config)
    return workspace.folder.at(workspace.run(run_id))
