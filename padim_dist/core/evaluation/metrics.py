"""Evaluation metrics: AUROC, the PRO score and the threshold at best F1.

All metrics come from one curve. It lists thresholds from high to low, with the share of
anomalous pixels, normal pixels and ground-truth regions at or above each. `exact_curve`
has a threshold at every distinct value. `PixelCounts` counts in bins, merges over shards
and differs by less than 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
PRO_LIMIT = 0.3
"""False-positive rate up to which the PRO score is integrated (section IV-A)."""

# A bin is the leading bits of a positive float32: 4096 bins per octave, 2**-16 to 2**17.
_SHIFT = 11
_LOWEST = int(np.float32(2.0**-16).view(np.uint32)) >> _SHIFT
_BINS = (int(np.float32(2.0**17).view(np.uint32)) >> _SHIFT) - _LOWEST


@dataclass(frozen=True)
class BestF1:
    """The threshold with the highest F1 score; values at or above it count as anomalous."""

    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Curve:
    """Cumulative counts over descending thresholds.

    Attributes
    ----------
    thresholds : array of float
        Descending, shape (T,).
    positives, negatives : array of float
        Number of anomalous and normal values at or above each threshold, shape (T,).
    overlap : array of float
        Share of a ground-truth region at or above each threshold, averaged over the regions,
        shape (T,); zeros if there are none.
    """

    thresholds: Floats
    positives: Floats
    negatives: Floats
    overlap: Floats

    def auroc(self) -> float:
        """Return the area under the ROC curve; NaN without both kinds of values."""
        fpr, tpr = self._roc()
        return float(np.trapezoid(tpr, fpr)) if len(fpr) else float("nan")

    def pro(self, limit: float = PRO_LIMIT) -> float:
        """Return the per-region overlap averaged over false-positive rates from 0 to `limit`."""
        fpr, overlap = self._pro(limit)
        return float(np.trapezoid(overlap, fpr) / limit) if len(fpr) else float("nan")

    def roc(self, points: int = 200) -> list[tuple[float, float]]:
        """Return at most `points` points (false-positive rate, true-positive rate).

        They are spread evenly along the curve, so corners stay. Empty without both kinds of values.
        """
        return _thinned(*self._roc(), points)

    def pro_curve(self, limit: float = PRO_LIMIT, points: int = 200) -> list[tuple[float, float]]:
        """Return points (false-positive rate, per-region overlap) of the curve behind `pro`."""
        return _thinned(*self._pro(limit), points)

    def _roc(self) -> tuple[Floats, Floats]:
        """Return false- and true-positive rates from 0; empty without both kinds of values."""
        if not len(self.thresholds) or not self.positives[-1] or not self.negatives[-1]:
            return np.empty(0), np.empty(0)
        shares = (counts / counts[-1] for counts in (self.negatives, self.positives))
        fpr, tpr = (np.concatenate([[0.0], share]) for share in shares)
        return fpr, tpr

    def _pro(self, limit: float) -> tuple[Floats, Floats]:
        """Return false-positive rates up to `limit` and the overlap; empty without regions."""
        if not len(self.thresholds) or not self.negatives[-1] or not self.overlap[-1]:
            return np.empty(0), np.empty(0)
        fpr = np.concatenate([[0.0], self.negatives / self.negatives[-1]])
        overlap = np.concatenate([[0.0], self.overlap])
        inside = fpr <= limit
        edge = np.interp(limit, fpr, overlap)
        return np.append(fpr[inside], limit), np.append(overlap[inside], edge)

    def best_f1(self) -> BestF1 | None:
        """Return the threshold at best F1; None without anomalous values."""
        if not len(self.thresholds) or not self.positives[-1]:
            return None
        found = self.positives + self.negatives
        f1 = 2 * self.positives / (found + self.positives[-1])
        best = int(np.argmax(f1))
        return BestF1(
            threshold=float(self.thresholds[best]),
            f1=float(f1[best]),
            precision=float(self.positives[best] / found[best]),
            recall=float(self.positives[best] / self.positives[-1]),
        )


def exact_curve(
    values: Floats, anomalous: npt.NDArray[np.bool_], regions: npt.NDArray[np.integer] | None = None
) -> Curve:
    """Return the curve with a threshold at every distinct value.

    Parameters
    ----------
    values : array of float
        Scores or distances, any shape.
    anomalous : array of bool
        Same shape.
    regions : array of int, optional
        Same shape: the number of the pixel's ground-truth region, unique over all
        images; 0 outside.
    """
    values, anomalous = values.ravel(), anomalous.ravel()
    thresholds, index = np.unique(values, return_inverse=True)
    count = len(thresholds)
    weights, total = np.zeros(len(values)), 0
    if regions is not None:
        weights, total = _region_weights(regions.ravel())
    return Curve(
        thresholds=thresholds[::-1].astype(np.float64),
        positives=_descending(np.bincount(index, weights=anomalous, minlength=count)),
        negatives=_descending(np.bincount(index, weights=~anomalous, minlength=count)),
        overlap=_descending(np.bincount(index, weights=weights, minlength=count)) / max(total, 1),
    )


@dataclass
class PixelCounts:
    """Histograms of anomaly-map values, which merge over shards.

    Attributes
    ----------
    positives, negatives : array of int
        Number of anomalous and normal pixels in each bin.
    covered : array of float
        Share of a region in each bin, summed over the regions.
    regions : int
        Number of ground-truth regions.

    Examples
    --------
    >>> counts = PixelCounts()
    >>> counts.update(np.array([[1.0, 5.0]], np.float32), np.array([[0, 1]]))
    >>> counts.curve().auroc(), counts.regions
    (1.0, 1)
    """

    positives: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    negatives: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    covered: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    regions: int = 0

    def update(
        self, anomaly_map: npt.NDArray[np.float32], regions: npt.NDArray[np.integer]
    ) -> None:
        """Add an image: its map and its regions, of one shape, numbered from 1 (0: normal)."""
        bits = np.ascontiguousarray(anomaly_map, np.float32).clip(0).view(np.uint32).ravel()
        bins = ((bits >> _SHIFT).astype(np.int64) - _LOWEST).clip(0, _BINS - 1)
        labels = regions.ravel()
        inside = labels > 0
        self.negatives += np.bincount(bins[~inside], minlength=_BINS)
        if inside.any():
            weights, total = _region_weights(labels[inside])
            self.positives += np.bincount(bins[inside], minlength=_BINS)
            self.covered += np.bincount(bins[inside], weights=weights, minlength=_BINS)
            self.regions += total

    def merge(self, other: PixelCounts) -> None:
        """Add the images of another shard in place."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def curve(self) -> Curve:
        """Return the curve over non-empty bins; a threshold is the lower edge of its bin."""
        used = np.flatnonzero(self.positives + self.negatives)
        edges = ((used + _LOWEST).astype(np.uint32) << _SHIFT).view(np.float32)
        return Curve(
            thresholds=edges[::-1].astype(np.float64),
            positives=_descending(self.positives[used]),
            negatives=_descending(self.negatives[used]),
            overlap=_descending(self.covered[used]) / max(self.regions, 1),
        )


def _thinned(x: Floats, y: Floats, points: int) -> list[tuple[float, float]]:
    """Return at most `points` points of a rising curve, evenly spread, with both ends."""
    if len(x) > points:
        length = np.concatenate([[0.0], np.cumsum(np.diff(x) + np.diff(y))])
        chosen = np.searchsorted(length, np.linspace(0, length[-1], points))
        kept = np.unique(np.append(chosen.clip(max=len(x) - 1), [0, len(x) - 1]))[:points]
        kept[-1] = len(x) - 1
        x, y = x[kept], y[kept]
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _descending(counts: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """Return cumulative sums from the last bin down."""
    return np.cumsum(counts[::-1], dtype=np.float64)


def _region_weights(labels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.float64], int]:
    """Return weights (1 / area in a region, 0 outside) and the number of regions."""
    _, index, areas = np.unique(labels, return_inverse=True, return_counts=True)
    weights = np.where(labels > 0, 1.0 / areas[index], 0.0)
    return weights, len(areas) - int((labels <= 0).any())
