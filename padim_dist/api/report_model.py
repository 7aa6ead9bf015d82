"""What the report says of the model: thresholds, quality of the fit, drift of runs from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padim_dist.api import readers
from padim_dist.api.run_images import RunImages
from padim_dist.pages.data import DriftMap, DriftPoint, Quality, Threshold
from padim_dist.store.models import Model
from padim_dist.store.runs import list_runs
from padim_dist.store.workspace import Workspace


def thresholds_of(model: Model, groups: Sequence[str], cutoff: float) -> dict[str, Threshold]:
    """Scores from which images of groups are flagged, where their calibration resolves that."""
    found = {}
    for group in groups:
        calibration = model.calibration(group)  # type: ignore[attr-defined]
        if calibration is None:
            continue
        value = calibration.threshold(cutoff)
        if math.isfinite(value):
            low, high = calibration.interval(cutoff)
            found[group] = Threshold(value, low, high)
    return found


def quality_of(model: Model, groups: Sequence[str]) -> list[Quality]:
    """How well the fits of groups are determined."""
    if not hasattr(model, "quality"):
        return []
    found = []
    for group in groups:
        quality = model.quality(group)
        share = np.asarray(quality.epsilon_share, np.float64)
        condition = np.asarray(quality.condition, np.float64)
        found.append(
            Quality(
                group=group,
                images=quality.images,
                depth=quality.depth,
                epsilon_share=(float(np.median(share)), float(share.max())),
                condition=(float(np.median(condition)), float(condition.max())),
            )
        )
    return found


def drift_maps(run: RunImages, groups: Sequence[str]) -> list[DriftMap]:
    """Drift of some groups over the patches."""
    if not groups:
        return []
    dataset = readers.open_drift(run.url, run.options)  # type: ignore[attr-defined]
    found = []
    for group in groups:
        own = dataset.sel(group=group)
        found.append(DriftMap(group, own["ratio"].values, float(own["z"])))
    return found


def drift_trend(
    workspace: Workspace, head: Mapping[str, Any], groups: Sequence[str]
) -> list[DriftPoint]:
    """Drift of groups in the finished runs of a run's model; none where it has but one."""
    runs = [
        run
        for run in list_runs(workspace)
        if run["model_id"] == head["model_id"] and run.get("drift") and "finished_at" in run
    ]
    if len(runs) < 2:
        return []
    runs.sort(key=lambda run: str(run["finished_at"]))
    return [
        DriftPoint(run["finished_at"], group, run["drift"][group]["z"])
        for run in runs
        for group in groups
        if group in run["drift"]
    ]
