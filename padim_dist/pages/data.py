"""Values of the report of a run; `padim_dist.pages.html` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from padim_dist.core.alarms import Alarms
from padim_dist.pages.cards import Event, GalleryImage, Suspect, split_path
from padim_dist.pages.heat import HeatScale
from padim_dist.redaction import redacted
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import ScoreRow

if TYPE_CHECKING:
    from padim_dist.core.evaluation.flags import FlagFigures  # loads scipy

Points = Sequence[tuple[float, float]]
"""Points (x, y) of a curve."""


@dataclass(frozen=True)
class FlagSummary:
    """What is flagged in the run, and by which rule.

    Attributes
    ----------
    rule : Alarms
        The rule of the run.
    flagged, judged : int
        Images that are flagged, and that have a p-value.
    expected : float or None
        Expected false alarms if all images are normal; None if the rule promises no number.
    """

    rule: Alarms
    flagged: int
    judged: int
    expected: float | None


@dataclass(frozen=True)
class Threshold:
    """Score from which on an image is flagged, with its 90 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitCounts:
    """Images of a split in each bin of a histogram, and the flagged ones of them: shape (B,)."""

    name: str
    counts: npt.NDArray[np.int64]
    flagged: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """Histogram of scores, or of p-values if the run has several groups.

    Attributes
    ----------
    edges : array of float
        Edges of the bins, shape (B + 1,): scores, or -log10 of p-values.
    splits : sequence of SplitCounts
        Counts of each split.
    of_p_values : bool
        Whether the bins hold p-values.
    threshold : Threshold or None
        On the same axis.
    """

    edges: npt.NDArray[np.float64]
    splits: Sequence[SplitCounts]
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
    z, limit : float
        Drift of the group in standard deviations; a `z` above the limit is a significant change.
    picture : bytes or None
        WebP of the part of a typical image that the patches cover.
    """

    group: str
    ratio: npt.NDArray[np.float32]
    z: float
    limit: float
    picture: bytes | None = None


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
    images, depth : int
        Normal images of the fit, and dimensions of the Gaussian.
    regularised, condition : (float, float)
        Median and highest over patches: variance share added by epsilon or shrinkage, and
        condition number of the covariance.
    judged : float
        Share of the patches that are judged: those in its region of interest.
    """

    group: str
    images: int
    depth: int
    regularised: tuple[float, float]
    condition: tuple[float, float]
    judged: float = 1.0


@dataclass(frozen=True)
class LabelledGroup:
    """Evaluation metrics of a group with labels; None where they are not known.

    `flags` says how good its flags are.
    """

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
    flags: FlagFigures | None = None


@dataclass(frozen=True)
class LabelRow:
    """Images of a label: all, flagged, and those that reach the threshold of best F1.

    Without those that the model was fitted on.
    """

    label: str
    images: int
    flagged: int | None
    above_best: int | None


@dataclass(frozen=True)
class Labels:
    """Accuracy on labelled images.

    `evaluated` says whether the pixel metrics were computed, `flags` how good the flags of all
    images are; None if that is what those of one group say. `notes` are remarks.
    """

    groups: Sequence[LabelledGroup]
    rows: Sequence[LabelRow]
    evaluated: bool
    flags: FlagFigures | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Week:
    """Images of a week and the share of them that is flagged; None if none has a p-value.

    `week` is an ISO week, e.g. ``"2026-W48"``.
    """

    week: str
    images: int
    flagged_share: float | None


@dataclass(frozen=True)
class ReportData:
    """All contents of the report.

    Attributes
    ----------
    head : RunHead
        The run, with its settings.
    backbone : str
        Backbone of its model.
    shards_done : int
        Shards that have a score table.
    statuses : mapping of str to int
        Rows by status, also of an unfinished run.
    alarms : FlagSummary or None
        None without a calibration.
    groups : sequence of GroupRow
        Rows of the groups table, the worst first; `groups_left` more are not shown.
    anomalies : sequence of GalleryImage
        Images of the gallery, the most anomalous first.
    scales : mapping of str to HeatScale
        Colours of the heatmaps, by group.
    failures : sequence of ScoreRow
        The first rows without a score; `statuses` has all counts.
    weeks : sequence of Week
        Weekly trend of the archive.
    suspects : sequence of Suspect
        Suspects of the model's fit, the most anomalous first; `suspects_left` more are not shown.
    events : sequence of Event
        Flagged frames of films, joined over time; `events_left` more are not shown.
    warnings : sequence of str
        Sentences about the limits of the numbers.
    title : str or None
        Title of the page; by default the run and the archive.
    unseen : float
        Share of every image that the crop hides from the model.
    """

    head: RunHead
    backbone: str
    shards_done: int
    statuses: Mapping[str, int]
    alarms: FlagSummary | None
    histogram: Histogram | None
    groups: Sequence[GroupRow]
    groups_left: int = 0
    anomalies: Sequence[GalleryImage] = ()
    scales: Mapping[str, HeatScale] = field(default_factory=dict)
    failures: Sequence[ScoreRow] = ()
    drift: Sequence[DriftMap] = ()
    drift_groups: int = 0
    trend: Sequence[DriftPoint] = ()
    quality: Sequence[GroupFit] = ()
    labels: Labels | None = None
    weeks: Sequence[Week] = ()
    suspects: Sequence[Suspect] = ()
    suspects_left: int = 0
    events: Sequence[Event] = ()
    events_left: int = 0
    warnings: Sequence[str] = ()
    title: str | None = None
    unseen: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of the score table."""
        return sum(self.statuses.values())

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return self.statuses.get("scored", 0)

    @property
    def archive(self) -> str:
        """Name of the archive: as configured, or the last part of its address."""
        archive = self.head.asked["archive"]
        url = redacted(archive["url"])
        return str(archive.get("name") or split_path(url)[1] or url)
