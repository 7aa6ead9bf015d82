"""Accuracy on labelled images, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.api.labels.truths import Truths
from padim_dist.core.evaluation.metrics import exact_curve
from padim_dist.core.status import GOOD
from padim_dist.pages.data import LabelledGroup, LabelRow, Labels
from padim_dist.store.records import find_record
from padim_dist.store.runs.run import Run


@dataclass(frozen=True)
class PixelFigures:
    """Pixel metrics of a group; None where they are not known."""

    pixel_auroc: float | None = None
    pro: float | None = None


@dataclass(frozen=True)
class PixelCurves:
    """Points of the pixel curves of a group."""

    pixel_roc: Sequence[tuple[float, float]] = ()
    pro: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Metrics:
    """What the report shows of ``metrics.json``, by group."""

    groups: Mapping[str, PixelFigures]
    curves: Mapping[str, PixelCurves] = field(default_factory=dict)


def find_metrics(run: Run) -> Metrics | None:
    """Read the metrics that `evaluate` wrote; None if it did not run. Raises `DamagedFileError`."""
    advice = "Remove it, or run 'padim-dist evaluate' again"
    return find_record(run.workspace.folder, run.metrics_path, Metrics, advice)


def labels_of(
    columns: Mapping[str, npt.NDArray[Any]],
    metrics: Metrics | None,
    truths: Truths,
) -> Labels | None:
    """Return image metrics from the score table and pixel metrics from ``metrics.json``.

    Parameters
    ----------
    columns : mapping
        Images whose truth is known; see `Verdicts.labelled`.
    metrics : Metrics or None
        Pixel metrics, if `evaluate` has written them.
    truths : Truths
        Says how good the flags are.

    Returns
    -------
    Labels or None
        None without labels.
    """
    if not len(columns["label"]):
        return None
    flags, every = truths.figures()
    anomalous = columns["label"] != GOOD
    above = np.zeros(len(anomalous), bool)
    groups = []
    for name in sorted(set(columns["group"])):
        own = columns["group"] == name
        curve = exact_curve(columns["score"][own], anomalous[own])
        best = curve.best_f1()
        if best:
            above[own] = columns["score"][own] >= best.threshold
        auroc = curve.auroc()
        figures = metrics.groups.get(name, PixelFigures()) if metrics else PixelFigures()
        curves = metrics.curves.get(name, PixelCurves()) if metrics else PixelCurves()
        groups.append(
            LabelledGroup(
                name=name,
                images=int(own.sum()),
                anomalous=int(anomalous[own].sum()),
                image_auroc=None if np.isnan(auroc) else auroc,
                pixel_auroc=figures.pixel_auroc,
                pro=figures.pro,
                best_f1=best.f1 if best else None,
                best_threshold=best.threshold if best else None,
                roc=curve.roc(),
                pixel_roc=curves.pixel_roc,
                pro_curve=curves.pro,
                flags=flags.get(name),
            )
        )
    rows = []
    outside = columns["outside"].astype(bool)
    for label in sorted(set(columns["label"][outside]), key=lambda label: (label != GOOD, label)):
        own = outside & (columns["label"] == label)
        flagged = int(columns["flagged"][own].sum()) if every else None
        rows.append(LabelRow(label, int(own.sum()), flagged, int(above[own].sum())))
    own = [group.flags.counts for group in groups if group.flags]
    several = every if every and any(counts != every.counts for counts in own) else None
    return Labels(groups, rows, metrics is not None, several, truths.notes())
