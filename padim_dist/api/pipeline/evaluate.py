"""Evaluate: figures of merit of a run, where the archive has labels and masks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from padim_dist.api.settings import plans
from padim_dist.api.settings.places import logger, workspace_of
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.config import Config
from padim_dist.core.geometry import Grid
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.metrics import BestF1, PixelCounts, exact_curve
from padim_dist.errors import ImageError, RequestError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.manifests import read_shard
from padim_dist.store.run import open_array
from padim_dist.store.run_tables import finished_shards, read_by_shard
from padim_dist.store.workspace import Workspace

GOOD = "good"
_EIGHT_NEIGHBOURS = np.ones((3, 3))
_THREADS = 4


@dataclass(frozen=True)
class GroupFigures:
    """Figures of one group; None where the archive does not tell enough.

    Attributes
    ----------
    images, anomalous : int
        Labelled and scored test images, and how many of them are not good.
    image_auroc, pixel_auroc, pro : float or None
        Area under the ROC curve over images and over pixels, and the paper's PRO score.
    image_best_f1, pixel_best_f1 : BestF1 or None
        Thresholds with the highest F1 score.
    not_scored : int
        Labelled test images without a score.
    without_mask : int
        Anomalous images whose mask is missing or cannot be read: they count in the
        image figures alone.
    """

    images: int
    anomalous: int
    not_scored: int
    without_mask: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    image_best_f1: BestF1 | None
    pixel_best_f1: BestF1 | None


@dataclass(frozen=True)
class EvaluateResult:
    """Figures of a run, by group, and their means over groups."""

    run_id: str
    model_id: str
    groups: dict[str, GroupFigures]
    mean: dict[str, float | None]


class _Tally:
    """What is added up for a group."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.anomalous: list[bool] = []
        self.not_scored = 0
        self.without_mask = 0
        self.pixels = PixelCounts()

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Curves to draw, as a few points each: false alarms, and what is found."""
        images = exact_curve(np.array(self.scores), np.array(self.anomalous, bool))
        pixels = self.pixels.curve()
        return {"roc": images.roc(), "pixel_roc": pixels.roc(), "pro": pixels.pro_curve()}

    def figures(self) -> GroupFigures:
        images = exact_curve(np.array(self.scores), np.array(self.anomalous, bool))
        pixels = self.pixels.curve()
        return GroupFigures(
            images=len(self.scores),
            anomalous=sum(self.anomalous),
            not_scored=self.not_scored,
            without_mask=self.without_mask,
            image_auroc=_known(images.auroc()),
            pixel_auroc=_known(pixels.auroc()),
            pro=_known(pixels.pro()),
            image_best_f1=images.best_f1(),
            pixel_best_f1=pixels.best_f1(),
        )


def evaluate(config: Config, listener: Listener = ignore) -> EvaluateResult:
    """Compute the figures of merit of the newest run of these settings.

    Labelled images of the split ``test`` count. Pixel figures use the images that are
    good or have a mask, at the size of the crop; regions are 8-connected, as in the
    evaluation of MVTec AD. Also written to ``metrics.json`` in the run, with curves.

    Raises
    ------
    RequestError
        If there is no such run, it is not finished, or the archive has no labels.
    """
    info, run = plans.find_run(config)
    workspace = workspace_of(config)
    places = range(len(run["shards"]))
    missing = len(set(places) - finished_shards(workspace, run["run_id"]))
    if missing:
        raise RequestError(
            f"run {run['run_id']} is not finished: {missing} of {len(run['shards'])} shards are "
            "missing; run 'score' again, it resumes"
        )
    spec = info.embedding
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, info.sigma)
    reader = plans.reader_of(config, config.model.geometry)
    tallies: dict[str, _Tally] = {}
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows, distances in _shards(workspace, run, config, spec.shape.grids[0]):
            maps = anomaly_map.full(torch.from_numpy(distances)).numpy()
            regions = pool.map(lambda row: _regions(row, reader), rows)
            for row, full, region in zip(rows, maps, regions, strict=True):
                tally = tallies.setdefault(row["group"], _Tally())
                if row["status"] != "scored":
                    tally.not_scored += 1
                    continue
                tally.scores.append(row["score"])
                tally.anomalous.append(row["label"] != GOOD)
                if region is None:
                    tally.without_mask += 1
                elif not np.isnan(full[0, 0]):
                    tally.pixels.update(full, region)
            done += len(rows)
            listener(Progress("evaluate", run["images"], done))
    listener(Progress("evaluate", run["images"], run["images"]))
    if not tallies:
        raise RequestError(
            f"run {run['run_id']} has no labelled image of the split 'test'; evaluate needs an "
            "archive with labels, such as the layout 'mvtec'"
        )
    result = _result(run, {group: tally.figures() for group, tally in sorted(tallies.items())})
    path = f"{workspace.run(run['run_id'])}/metrics.json"
    curves = {group: tally.curves() for group, tally in sorted(tallies.items())}
    workspace.folder.put_json(path, {**asdict(result), "curves": curves})
    return result


def _shards(
    workspace: Workspace, run: dict[str, Any], config: Config, grid: Grid
) -> Iterator[tuple[list[dict[str, Any]], npt.NDArray[np.float32]]]:
    """Labelled test rows of each shard with their masks' URIs, and their patch distances."""
    array = (
        open_array(workspace.folder, workspace.run(run["run_id"]))
        if config.score.heatmaps == "grid"
        else None
    )
    for place, table in read_by_shard(workspace, run["run_id"]):
        shard = run["shards"][place]
        masks = {
            row["image_id"]: row for row in read_shard(workspace.folder, run["snapshot"], shard)
        }
        rows = [
            {**row, "mask_uri": masks[row["image_id"]]["mask_uri"]}
            for row in table.to_pylist()
            if row["split"] == "test" and row["label"] is not None and row["group"] is not None
        ]
        if not rows:
            continue
        distances = np.full((len(rows), *grid), np.nan, np.float32)
        if array is not None:
            kept = [
                (i, row["heatmap_row"])
                for i, row in enumerate(rows)
                if row["heatmap_row"] is not None
            ]
            if kept:
                first = min(at for _, at in kept)
                last = max(at for _, at in kept)
                block: Any = array[first : last + 1]
                for i, at in kept:
                    distances[i] = block[at - first]
        yield rows, distances


def _regions(row: dict[str, Any], reader: ImageReader) -> npt.NDArray[np.int32] | None:
    """Ground-truth regions of an image at the size of the crop; None where not known."""
    if row["status"] != "scored":
        return None
    if row["label"] == GOOD:
        return np.zeros(reader.geometry.crop, np.int32)
    if row["mask_uri"] is None:
        return None
    try:
        mask = reader.load_mask(row["mask_uri"])
    except ImageError as error:
        logger.warning("mask %s is left out: %s", row["mask_uri"], error)
        return None
    regions, _ = ndimage.label(mask.numpy(), _EIGHT_NEIGHBOURS)
    numbered: npt.NDArray[np.int32] = regions.astype(np.int32)
    return numbered


def _result(run: dict[str, Any], groups: dict[str, GroupFigures]) -> EvaluateResult:
    mean = {}
    for name in ("image_auroc", "pixel_auroc", "pro"):
        values = [getattr(figures, name) for figures in groups.values()]
        known = [value for value in values if value is not None]
        mean[name] = float(np.mean(known)) if known else None
    return EvaluateResult(run["run_id"], run["model_id"], groups, mean)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
