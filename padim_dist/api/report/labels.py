"""Accuracy on labelled images, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.metrics import exact_curve
from padim_dist.core.status import GOOD
from padim_dist.pages.data import LabelledGroup, LabelRow, Labels


def labels_of(
    columns: Mapping[str, npt.NDArray[Any]], metrics: Mapping[str, Any] | None, judged: bool
) -> Labels | None:
    """Return image metrics from the score table and pixel metrics from ``metrics.json``.

    Parameters
    ----------
    columns : mapping
        group, label, score, flagged of labelled test images; see `Verdicts.labelled`.
    metrics : mapping or None
        Content of ``metrics.json``, if `evaluate` has written it.
    judged : bool
        Whether images have flags.

    Returns
    -------
    Labels or None
        None without labels.
    """
    if not len(columns["label"]):
        return None
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
        figures = metrics["groups"].get(name, {}) if metrics else {}
        curves = metrics.get("curves", {}).get(name, {}) if metrics else {}
        groups.append(
            LabelledGroup(
                name=name,
                images=int(own.sum()),
                anomalous=int(anomalous[own].sum()),
                image_auroc=None if np.isnan(auroc) else auroc,
                pixel_auroc=figures.get("pixel_auroc"),
                pro=figures.get("pro"),
                best_f1=best.f1 if best else None,
                best_threshold=best.threshold if best else None,
                roc=curve.roc(),
                pixel_roc=[(x, y) for x, y in curves.get("pixel_roc", [])],
                pro_curve=[(x, y) for x, y in curves.get("pro", [])],
            )
        )
    rows = []
    for label in sorted(set(columns["label"]), key=lambda label: (label != GOOD, label)):
        own = columns["label"] == label
        flagged = int(columns["flagged"][own].sum()) if judged else None
        rows.append(LabelRow(label, int(own.sum()), flagged, int(above[own].sum())))
    return Labels(groups, rows, metrics is not None)
