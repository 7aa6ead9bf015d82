"""What the report says of the model: thresholds, quality of the fit, drift of runs from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padim_dist.api.analysis.readers import open_drift
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.core.drift import Drift
from padim_dist.pages.data import DriftMap, DriftPoint, Quality, Threshold
from padim_dist.store.models import Model
from padim_dist.store.run import list_runs
from padim_dist.store.workspace import Workspace

_FALSE_DRIFT = 0.001
"""Runs of which nothing has changed and that are called drifted, whatever the number of groups."""


def thresholds_of(model: Model, groups: Sequence[str], cutoff: float) -> dict[str, Threshold]:
    """Scores from which images of groups are flagged, where their calibration resolves that."""
    found = {}
    for group in groups:
        calibration = model.calibration(group)
        if calibration is None:
            continue
        value = calibration.threshold(cutoff)
        if math.isfinite(value):
            found[group] = Threshold(value, *calibration.interval(cutoff))
    return found


def quality_of(model: Model, groups: Sequence[str]) -> tuple[list[Quality], list[str]]:
    """How well the fits of groups are determined, and what is to be mended of which."""
    found: list[Quality] = []
    faults: dict[str, str] = {}
    for group in groups:
        quality = model.quality(group)
        added, condition = quality.regularised, quality.condition
        found.append(
            Quality(
                group=group,
                images=quality.images,
                depth=quality.depth,
                regularised=(float(np.median(added)), float(added.max())),
                condition=(float(np.median(condition)), float(condition.max())),
            )
        )
        if warnings := quality.warnings():
            faults[group] = "; ".join(warnings)
    if len(faults) <= 1:
        return found, [f"Group {group}: {fault}." for group, fault in faults.items()]
    first, fault = next(iter(faults.items()))
    return found, [f"{len(faults):,} groups are not well determined. Of them {first}: {fault}."]


def drift_maps(run: RunImages, groups: Sequence[str], tested: int) -> list[DriftMap]:
    """Drift of some groups, of so many that are looked at, over the patches."""
    if not groups:
        return []
    ratios = open_drift(run.url, run.options)["ratio"].sel(group=list(groups)).values
    maps = []
    for group, ratio in zip(groups, ratios, strict=True):
        figures = run.head["drift"][group]
        drift = Drift(**{name: figures[name] for name in ("images", "drift", "expected", "noise")})
        maps.append(DriftMap(group, ratio, drift.z, drift.limit(_FALSE_DRIFT / tested)))
    return maps


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
