"""Thresholds, quality and drift of the model, for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from padim_dist.api.analysis.readers import open_drift
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.settings.places import logger
from padim_dist.core.drift import FALSE_DRIFT, Drift
from padim_dist.errors import ConfigError, DamagedFileError, RunError
from padim_dist.pages.data import DriftMap, DriftPoint, GroupFit, Threshold
from padim_dist.pages.encode import SMALL_BYTES, SMALL_SIDE, encode
from padim_dist.store.gaussians import Model
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import ScoreRow
from padim_dist.store.runs.run import list_runs
from padim_dist.store.runs.tombstones import pruned_runs
from padim_dist.store.workspace import Workspace


def thresholds_of(model: Model, groups: Sequence[str], head: RunHead) -> dict[str, Threshold]:
    """Return the lowest flagged score of each group, if its calibration resolves it."""
    found = {}
    for group in groups:
        calibration = model.calibration(group)
        cutoff = head.cutoff_in(calibration.resolution) if calibration else None
        if calibration is None or cutoff is None:
            continue
        if math.isfinite(value := calibration.threshold(cutoff)):
            found[group] = Threshold(value, *calibration.interval(cutoff))
    return found


def quality_of(model: Model, groups: Sequence[str]) -> tuple[list[GroupFit], list[str]]:
    """Return how well the fits of groups are determined, and warnings by group."""
    found: list[GroupFit] = []
    faults: dict[str, str] = {}
    for group in groups:
        quality = model.quality(group)
        maps = quality.regularised, quality.condition
        added, condition = ((float(np.nanmedian(map_)), float(np.nanmax(map_))) for map_ in maps)
        judged = model.info.embedding_of(group).shape.share
        found.append(GroupFit(group, quality.images, quality.depth, added, condition, judged))
        if warnings := quality.warnings():
            faults[group] = "; ".join(warnings)
    if len(faults) <= 1:
        return found, [f"Group {group}: {fault}." for group, fault in faults.items()]
    first, fault = next(iter(faults.items()))
    return found, [f"{len(faults):,} groups are not well determined, e.g. {first}: {fault}."]


def drift_maps(run: RunImages, typical: Mapping[str, ScoreRow | None]) -> list[DriftMap]:
    """Return the drift of some groups of a run over the patches, with a typical image of each."""
    if not typical:
        return []
    ratios = open_drift(run.run.url, run.run.workspace.folder.options)["ratio"]
    chance = FALSE_DRIFT / len(run.head.drift)
    pictures = _seen(run, [row for row in typical.values() if row])
    maps = []
    for group, ratio in zip(typical, ratios.sel(group=list(typical)).values, strict=True):
        figures = run.head.drift[group]
        drift = Drift(figures.images, figures.drift, figures.expected, figures.noise)
        maps.append(DriftMap(group, ratio, drift.z, drift.limit(chance), pictures.get(group)))
    return maps


def _seen(run: RunImages, rows: Sequence[ScoreRow]) -> dict[str, bytes]:
    """Return what the trunk sees of rows' images, by group, of those that can be read."""
    found = {}
    for image in run.manifest_rows(rows).values():
        try:
            loaded = run.reader_of(str(image.group)).load(image)
        except DamagedFileError as error:  # the reference of the group
            logger.warning("the drift map of %r has no picture: %s", str(image.group), error)
            continue
        except (RunError, ConfigError, OSError) as error:  # the store fails, or no PyAV
            logger.warning("drift maps have no picture: %s", error)
            break
        if loaded.pixels is not None:
            picture = Image.fromarray(loaded.pixels.permute(1, 2, 0).numpy())
            found[str(image.group)] = encode(picture, SMALL_BYTES, SMALL_SIDE)
    return found


def drift_trend(workspace: Workspace, head: RunHead, groups: Sequence[str]) -> list[DriftPoint]:
    """Return the drift of groups in the finished runs of a model; none if there is only one."""
    live = list_runs(workspace)
    runs = [
        (run.finished_at, run.drift)
        for run in live
        if run.model_id == head.model_id and run.drift and run.finished_at
    ]
    runs += [
        (stone.finished_at, stone.drift)
        for stone in pruned_runs(workspace, (run.run_id for run in live))
        if stone.model_id == head.model_id and stone.drift and stone.finished_at
    ]
    if len(runs) < 2:
        return []
    return [
        DriftPoint(at, group, drift[group].z)
        for at, drift in sorted(runs, key=lambda run: run[0])
        for group in groups
        if group in drift
    ]
