"""What the report of a run says, as plain values; `padim_dist.pages.page` makes it a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Points = Sequence[tuple[float, float]]
"""Of a curve: (x, y)."""


@dataclass(frozen=True)
class Head:
    """Which run it is, and how much of it is there.

    Attributes
    ----------
    run_id, model_id, backbone : str
        What was scored with what.
    archive : str
        Where the images are.
    images : int
        That the run is to have.
    shards, shards_done : int
        Of the run, and those that have a score table.
    started_at, finished_at : str or None
        ISO 8601; the second is None until the run is whole.
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
        """Rows that are there."""
        return sum(self.statuses.values())

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return self.statuses.get("scored", 0)


@dataclass(frozen=True)
class Alarms:
    """When an image is flagged.

    Attributes
    ----------
    rule : str
        ``alpha``, ``per_million``, ``a_run`` or ``fdr``.
    asked : float
        The number that the rule was given.
    cutoff : float
        The p-value up to which an image is flagged.
    flagged : int
        Images that are.
    judged : int
        Images that have a p-value.
    """

    rule: str
    asked: float
    cutoff: float
    flagged: int
    judged: int

    @property
    def expected(self) -> float:
        """False alarms to expect if all images were normal."""
        return self.cutoff * self.judged


@dataclass(frozen=True)
class Threshold:
    """A score at which an image is flagged, and how sure that is (90 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Scores of the run; of several groups p-values, which are on one scale.

    Attributes
    ----------
    edges : array of float
        Of the bins, shape (B + 1,): scores, or -log10 of p-values.
    counts, flagged : array of int
        Images in each bin, and those of them that are flagged, shape (B,).
    of_p_values : bool
        Whether the bins are of p-values.
    threshold : Threshold or None
        On the same axis.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    flagged: npt.NDArray[np.int64]
    of_p_values: bool
    threshold: Threshold | None


@dataclass(frozen=True)
class Group:
    """A group in numbers; None where there is no score, calibration or drift."""

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
class Region:
    """A part of an image that is anomalous, in pixels of the original; the box is half-open."""

    number: int
    top: int
    left: int
    bottom: int
    right: int
    area: int
    peak: float
    p_value: float | None


@dataclass(frozen=True)
class Anomaly:
    """An image of the gallery.

    Attributes
    ----------
    uri, member, group, label : str or None
        As in the score table.
    score, p_value, extrapolated, flagged
        As in the score table; the last three are None without a calibration.
    width, height : int
        Of the original image, in pixels.
    peak : (int, int)
        y and x of the highest point, in pixels of the original image.
    map_box : (int, int, int, int)
        Top, left, bottom and right of what the heat map covers, in pixels of the original.
    regions : sequence of Region
        Most anomalous first.
    picture, heat : bytes or None
        WebP: the whole original, and the heat over `map_box`.
    gone : str or None
        Why there is no picture.
    """

    uri: str
    member: str | None
    group: str
    label: str | None
    score: float
    p_value: float | None
    extrapolated: bool | None
    flagged: bool | None
    width: int
    height: int
    peak: tuple[int, int]
    map_box: tuple[int, int, int, int]
    regions: Sequence[Region] = ()
    picture: bytes | None = None
    heat: bytes | None = None
    gone: str | None = None

    @property
    def name(self) -> str:
        """The last part of its name."""
        return (self.member or self.uri).rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Failure:
    """A row without a score."""

    uri: str
    member: str | None
    status: str
    error: str | None


@dataclass(frozen=True)
class DriftMap:
    """Where a group's images of this run differ from those of the fit.

    Attributes
    ----------
    ratio : array of float
        Squared drift of each patch over what is expected without drift, shape (y, x).
    z : float
        Drift of the group in standard deviations of what is expected.
    limit : float
        What `z` stays below unless something has changed, chance set aside.
    """

    group: str
    ratio: npt.NDArray[np.float32]
    z: float
    limit: float


@dataclass(frozen=True)
class DriftPoint:
    """Drift of a group in a run of the same model."""

    at: str
    group: str
    z: float


@dataclass(frozen=True)
class Quality:
    """How well a group's fit is determined.

    Attributes
    ----------
    group : str
        Its name.
    images, depth : int
        Normal images, and dimensions of the Gaussian.
    regularised : (float, float)
        Median and highest over patches: the share of the variance that epsilon or shrinkage added.
    condition : (float, float)
        Median and highest over cells: of the covariance.
    """

    group: str
    images: int
    depth: int
    regularised: tuple[float, float]
    condition: tuple[float, float]


@dataclass(frozen=True)
class LabelledGroup:
    """Figures of a group with labels; None where they are not known."""

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
class Kind:
    """Images of a label: how many are flagged, and how many reach the threshold of best F1."""

    label: str
    images: int
    flagged: int | None
    above_best: int | None


@dataclass(frozen=True)
class Labels:
    """What labels tell; `evaluated`: whether the pixel figures were computed."""

    groups: Sequence[LabelledGroup]
    kinds: Sequence[Kind]
    evaluated: bool


@dataclass(frozen=True)
class ReportData:
    """All that is on the page.

    Attributes
    ----------
    alarms : Alarms or None
        None without a calibration.
    groups : sequence of Group
        The worst first; `groups_left` more are not shown.
    anomalies : sequence of Anomaly
        The most anomalous first.
    failures : sequence of Failure
        The first ones; `head.statuses` has the counts.
    settings : mapping
        As they were asked.
    warnings : sequence of str
        What to keep in mind.
    """

    head: Head
    alarms: Alarms | None
    histogram: Histogram | None
    groups: Sequence[Group]
    groups_left: int = 0
    anomalies: Sequence[Anomaly] = ()
    failures: Sequence[Failure] = ()
    drift: Sequence[DriftMap] = ()
    drift_groups: int = 0
    trend: Sequence[DriftPoint] = ()
    quality: Sequence[Quality] = ()
    labels: Labels | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
