"""Values of the report of a run; `padim_dist.pages.html` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_dist.core.alarms import Alarms
from padim_dist.pages.gallery_data import Failure, GalleryImage

Points = Sequence[tuple[float, float]]
"""Points (x, y) of a curve."""


@dataclass(frozen=True)
class ReportHead:
    """Identity and progress of the run.

    Attributes
    ----------
    run_id, model_id, backbone : str
        The run, its model and the backbone of the model.
    archive : str
        Address of the images.
    images : int
        Images of the whole run.
    shards, shards_done : int
        Shards of the run, and those that have a score table.
    started_at, finished_at : str or None
        ISO 8601; the second is None until the run is finished.
    statuses : mapping of str to int
        Rows by status.
    """

    run_id: str
    model_id: str
    backbone: str
    archive: str
    images: int
    shards: int
    shards_done: int
    started_at: str
    finished_at: str | None
    statuses: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Rows of the score table."""
        return sum(self.statuses.values())

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return self.statuses.get("scored", 0)


@dataclass(frozen=True)
class FlagSummary:
    """What is flagged in the run, and by which rule.

    Attributes
    ----------
    rule : Alarms
        The rule of the run.
    cutoff : float
        Images with a p-value up to this are flagged.
    flagged : int
        Images that are flagged.
    judged : int
        Images that have a p-value.
    """

    rule: Alarms
    cutoff: float
    flagged: int
    judged: int

    @property
    def expected(self) -> float:
        """Expected false alarms if all images are normal."""
        return self.cutoff * self.judged


@dataclass(frozen=True)
class Threshold:
    """Score from which on an image is flagged, with its 90 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Histogram of scores, or of p-values if the run has several groups.

    Attributes
    ----------
    edges : array of float
        Edges of the bins, shape (B + 1,): scores, or -log10 of p-values.
    counts, flagged : array of int
        Images and flagged images in each bin, shape (B,).
    of_p_values : bool
        Whether the bins hold p-values.
    threshold : Threshold or None
        On the same axis.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    flagged: npt.NDArray[np.int64]
    of_p_values: bool
    threshold: Threshold | None


@dataclass(frozen=True)
class GroupRow:
    """A row of the groups table; None where there is no score, calibration or drift."""

    name: str
    images: int
    scored: int
    flagged: int | None = None
    median: float | None = None
    p99: float | None = None
    highest: float | None = None
    threshold: Threshold | None = None
    drift_z: float | None = None


@dataclass(frozen=True)
class DriftMap:
    """Drift of a group over the patches.

    Attributes
    ----------
    ratio : array of float
        Squared drift of each patch, divided by its expected value without drift, shape (y, x).
    z : float
        Drift of the group, in standard deviations of the value without drift.
    limit : float
        A `z` above this is a significant change.
    """

    group: str
    ratio: npt.NDArray[np.float32]
    z: float
    limit: float


@dataclass(frozen=True)
class DriftPoint:
    """Drift of a group in one run of the model."""

    at: str
    group: str
    z: float


@dataclass(frozen=True)
class GroupFit:
    """Numerical quality of a group's fit.

    Attributes
    ----------
    group : str
        Name of the group.
    images, depth : int
        Normal images of the fit, and dimensions of the Gaussian.
    regularised : (float, float)
        Median and highest over patches of the variance share added by epsilon or shrinkage.
    condition : (float, float)
        Median and highest over patches of the covariance's condition number.
    """

    group: str
    images: int
    depth: int
    regularised: tuple[float, float]
    condition: tuple[float, float]


@dataclass(frozen=True)
class LabelledGroup:
    """Evaluation metrics of a group with labels; None where they are not known."""

    name: str
    images: int
    anomalous: int
    image_auroc: float | None
    pixel_auroc: float | None
    pro: float | None
    best_f1: float | None
    best_threshold: float | None
    roc: Points = ()
    pixel_roc: Points = ()
    pro_curve: Points = ()


@dataclass(frozen=True)
class LabelRow:
    """Images of a label: all, flagged, and those that reach the threshold of best F1."""

    label: str
    images: int
    flagged: int | None
    above_best: int | None


@dataclass(frozen=True)
class Labels:
    """Accuracy on labelled images; `evaluated`: whether the pixel metrics were computed."""

    groups: Sequence[LabelledGroup]
    rows: Sequence[LabelRow]
    evaluated: bool


@dataclass(frozen=True)
class ReportData:
    """All contents of the report.

    Attributes
    ----------
    alarms : FlagSummary or None
        None without a calibration.
    groups : sequence of GroupRow
        Rows of the groups table, the worst first; `groups_left` more are not shown.
    anomalies : sequence of GalleryImage
        Images of the gallery, the most anomalous first.
    failures : sequence of Failure
        The first files without a score; `head.statuses` has all counts.
    settings : mapping
        Settings of the run, as they were given.
    warnings : sequence of str
        Sentences about the limits of the numbers.
    """

    head: ReportHead
    alarms: FlagSummary | None
    histogram: Histogram | None
    groups: Sequence[GroupRow]
    groups_left: int = 0
    anomalies: Sequence[GalleryImage] = ()
    failures: Sequence[Failure] = ()
    drift: Sequence[DriftMap] = ()
    drift_groups: int = 0
    trend: Sequence[DriftPoint] = ()
    quality: Sequence[GroupFit] = ()
    labels: Labels | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
