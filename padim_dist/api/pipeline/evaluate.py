"""Evaluate: evaluation metrics of a run, from labels and masks of the archive."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from padim_dist.api.pipeline.mask_doubts import MaskDoubts
from padim_dist.api.settings import plans
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.moved import move_since_id, moved_hint
from padim_dist.api.settings.places import ConfigLike, as_config, workspace_of
from padim_dist.archive.reading.masks import CheckedMask, check_mask
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.reading.transform import prepare_mask
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.core.geometry import Grid
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.metrics import BestF1, PixelCounts, exact_curve
from padim_dist.core.status import GOOD
from padim_dist.errors import RequestError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.pages.words import counted
from padim_dist.store.gaussians import Model
from padim_dist.store.manifests import read_shard
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run

_EIGHT_NEIGHBOURS = np.ones((3, 3))
_THREADS = 4


@dataclass(frozen=True)
class GroupFigures:
    """Evaluation metrics of a group; None if labels or masks are missing.

    Attributes
    ----------
    images, anomalous, not_scored : int
        Labelled and scored test images, the anomalous ones among them, and those without a score.
    image_auroc, pixel_auroc, pro : float or None
        Area under the ROC curve over images and over pixels, and the paper's PRO score.
    image_best_f1, pixel_best_f1 : BestF1 or None
        Thresholds with the highest F1 score.
    without_mask : int
        Anomalous images whose mask is missing or cannot be read: they count only in the image
        metrics.
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
    """Evaluation metrics of a run.

    Attributes
    ----------
    run_id, model_id : str
        The run and its model.
    groups, mean : mapping
        Metrics by group, and their means over groups.
    notes : list of str
        Masks that may not go with their images.
    """

    run_id: str
    model_id: str
    groups: dict[str, GroupFigures]
    mean: dict[str, float | None]
    notes: list[str] = field(default_factory=list)


class _Tally:
    """Scores, labels and pixel counts of a group."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.anomalous: list[bool] = []
        self.not_scored = 0
        self.without_mask = 0
        self.pixels = PixelCounts()

    def figures(self) -> tuple[GroupFigures, dict[str, list[tuple[float, float]]]]:
        """Return the metrics, and a few points of each ROC and PRO curve, to draw."""
        images = exact_curve(np.array(self.scores), np.array(self.anomalous, bool))
        pixels = self.pixels.curve()
        curves = {"roc": images.roc(), "pixel_roc": pixels.roc(), "pro": pixels.pro_curve()}
        figures = GroupFigures(
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
        return figures, curves


def evaluate(
    config: ConfigLike, listener: Listener = ignore, *, run: str | None = None
) -> EvaluateResult:
    """Compute evaluation metrics of a run, if the archive has labels.

    Labelled images of the split ``test`` count. Pixel metrics use the images that are good or have
    a mask, at the size of the crop; regions are 8-connected, as in the evaluation of MVTec AD. The
    result is also written to ``metrics.json`` in the run, with curves.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.

    Raises
    ------
    RequestError
        If there is no such run, it is not finished, or the archive has no labels.
    """
    config = as_config(config)
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    found = Run(workspace, head.run_id)
    if missing := len(set(range(len(head.shards))) - found.scores.finished()):
        raise RequestError(
            f"run {head.run_id} is not finished: it lacks {counted(missing, 'shard')} of "
            f"{len(head.shards)}; run 'padim-dist score' again: it resumes"
        )
    info = Model(workspace, head.model_id).info
    spec = info.embedding
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, info.sigma)
    moved = move_since_id(config, head.snapshot)
    reader = plans.reader_of(
        config, spec, moved, plans.witnesses_of(config, plans.whole_manifest(config))
    )
    tallies: dict[str, _Tally] = {}
    doubts = MaskDoubts()
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows, distances in _shards(found, head, spec.shape.grids[0]):
            maps = anomaly_map.full(torch.from_numpy(distances)).numpy()
            regions = pool.map(lambda row: _regions(row, reader), rows)
            for row, full, (region, mask) in zip(rows, maps, regions, strict=True):
                doubts.add(mask)
                tally = tallies.setdefault(row.group, _Tally())
                if row.score is None:
                    tally.not_scored += 1
                    continue
                tally.scores.append(row.score)
                tally.anomalous.append(row.label != GOOD)
                if region is None:
                    tally.without_mask += 1
                elif not np.isnan(full[0, 0]):
                    tally.pixels.update(full, region)
            done += len(rows)
            listener(Progress("evaluate", head.images, done))
    listener(Progress("evaluate", head.images, head.images))
    if not tallies:
        raise RequestError(
            f"run {head.run_id} has no labelled image of the split 'test'; 'padim-dist evaluate' "
            "needs an archive with labels, such as the layout 'mvtec', and a run of it (--run)"
        )
    measured = {group: tally.figures() for group, tally in sorted(tallies.items())}
    groups = {group: figures for group, (figures, _) in measured.items()}
    curves = {group: curves for group, (_, curves) in measured.items()}
    mean = {name: _mean(groups, name) for name in ("image_auroc", "pixel_auroc", "pro")}
    notes = [*filter(None, [moved_hint(config)]), *doubts.notes()]
    result = EvaluateResult(head.run_id, head.model_id, groups, mean, notes)
    workspace.folder.put_json(found.metrics_path, {**asdict(result), "curves": curves})
    return result


@dataclass(frozen=True)
class _Labelled:
    """A labelled test row."""

    group: str
    label: str
    score: float | None
    heatmap_row: int | None
    image: ImageRow


def _shards(
    run: Run, head: RunHead, grid: Grid
) -> Iterator[tuple[list[_Labelled], npt.NDArray[np.float32]]]:
    """Yield the labelled test rows of each shard, and their patch distances (n, h, w)."""
    has_heatmaps = run.heatmaps.exist()
    columns = ["shard", "image_id", "split", "group", "label", "score", "heatmap_row"]
    for place, table in run.scores.read_shards(columns):
        manifest = read_shard(run.workspace, head.snapshot, head.shards[place])
        images = {row.image_id: row for row in to_rows(manifest)}
        rows = [
            _Labelled(row["group"], row["label"], row["score"], row["heatmap_row"], images[name])
            for name, row in zip(table["image_id"].to_pylist(), table.to_pylist(), strict=True)
            if row["split"] == "test" and row["label"] is not None and row["group"] is not None
        ]
        if not rows:
            continue
        distances = np.full((len(rows), *grid), np.nan, np.float32)
        kept = [(i, row.heatmap_row) for i, row in enumerate(rows) if row.heatmap_row is not None]
        if has_heatmaps and kept:
            first = min(at for _, at in kept)
            block = run.heatmaps.read(slice(first, max(at for _, at in kept) + 1))
            for i, at in kept:
                distances[i] = block[at - first]
        yield rows, distances


def _regions(
    row: _Labelled, reader: ImageReader
) -> tuple[npt.NDArray[np.int32] | None, CheckedMask | None]:
    """Return ground-truth regions of an image at the size of the crop, None if unknown; its mask.

    A mask that may not go with its image is used as it is.
    """
    if row.score is None:
        return None, None
    if row.label == GOOD:
        return np.zeros(reader.geometry.crop, np.int32), None
    if row.image.mask_uri is None:
        return None, None
    mask = check_mask(reader, row.image)
    if mask.pixels is None:
        return None, mask
    pixels = prepare_mask(mask.pixels, reader.geometry).numpy()
    regions: npt.NDArray[np.int32] = ndimage.label(pixels, _EIGHT_NEIGHBOURS)[0]
    return regions.astype(np.int32), mask


def _mean(groups: dict[str, GroupFigures], name: str) -> float | None:
    values = (getattr(figures, name) for figures in groups.values())
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
