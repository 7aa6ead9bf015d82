"""From scores of normal images to p-values and thresholds with a known false-alarm rate.

The scores are leave-one-out: each normal image as a model of all the others sees it
(`left_out`), so that they are what a new normal image may expect. The p-value of a score
is the share of them that is as high (conformal prediction: Vovk, Gammerman and Shafer,
2005); beyond the highest a generalised Pareto tail goes on, marked as extrapolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]

LEAST_FOR_TAIL = 20
"""Scores below which no tail is fitted: p-values then end at 1 / (n + 1)."""
PIXEL_ALPHAS = np.logspace(-1, -6, 51)
"""Shares of normal pixels for which a model knows the threshold."""
_TAIL_SHARE = 0.1
_LEAST_EXCESSES = 10
_HEAVIEST = 0.5
_ALMOST_ONE = 1.0 - 1e-6


def left_out(squares: Tensor, count: int, kept: Tensor | float = 1.0) -> Tensor:
    """Squared distances of fitted images from the model of all images but themselves.

    Leaving an image out is a rank-one step of mean and scatter, so by the formula of
    Sherman and Morrison its distance from the rest is a function of its distance from
    all: no other model is fitted, and the patches stay independent of each other. With
    ``m`` the squared distance, ``n`` images and ``h = n m / (n - 1)^2``::

        (n / (n - 1))^2 (n - 2) / (n - 1) m / (1 - h)

    It is exact for the covariance of the others regularised by epsilon (n - 1) / (n - 2).

    Parameters
    ----------
    squares : Tensor
        Squared Mahalanobis distances (G_0, N) of images that the model was fitted on.
    count : int
        Number of images n that it was fitted on.
    kept : Tensor or float, optional
        Share of the empirical covariance that shrinkage has left, (G_0, 1); its target is
        taken for fixed.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    ValueError
        If `count` is below three: the others would have no covariance.
    """
    if count < 3:
        raise ValueError(f"to leave one out takes three images; found {count}")
    n = float(count)
    leverage = (squares * kept * (n / (n - 1) ** 2)).clamp(max=_ALMOST_ONE)
    return squares / (1 - leverage) * (n * n * (n - 2) / (n - 1) ** 3)


def decisive_pixels(pixels: int) -> int:
    """How many of the highest of so many values decide the thresholds of all `PIXEL_ALPHAS`."""
    return pixels - int((1 - PIXEL_ALPHAS[0]) * (pixels - 1)) if pixels else 0


def keep_highest(values: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """The highest of some values, in no order; all where they are not more than `most`."""
    return values if len(values) <= most else np.partition(values, -most)[-most:]


def pixel_thresholds(highest: npt.NDArray[np.float32], pixels: int) -> Array:
    """Thresholds above which a share of `PIXEL_ALPHAS` of values lies.

    Parameters
    ----------
    highest : array
        The highest of them, `decisive_pixels` at least, sorted.
    pixels : int
        Values there were.
    """
    at = (1 - PIXEL_ALPHAS) * (pixels - 1) - (pixels - len(highest))
    return np.interp(at, np.arange(len(highest)), highest)


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto tail over a threshold.

    Attributes
    ----------
    start : float
        Scores above it belong to the tail.
    share : float
        Probability of a normal score above it.
    shape, scale : float
        Of the distribution of the excesses. The shape is 0 (exponential) at least: a tail
        that ends somewhere would make far scores impossible instead of improbable.
    """

    start: float
    share: float
    shape: float
    scale: float

    @classmethod
    def fit(cls, scores: Array) -> Tail:
        """Fit the highest tenth of sorted scores, by L-moments (Hosking and Wallis, 1987)."""
        n = len(scores)
        k = max(_LEAST_EXCESSES, int(n * _TAIL_SHARE))
        start, excesses = scores[n - k - 1], scores[n - k :] - scores[n - k - 1]
        mean = float(excesses.mean())
        weighted = float(excesses @ np.arange(k)) / (k * (k - 1))
        second = 2 * weighted - mean  # the second L-moment: half the mean difference of two
        if mean <= 0 or second <= 0:  # all the same: whatever lies above them is far out
            return cls(float(start), k / (n + 1), 0.0, max(mean, np.finfo(float).tiny))
        shape = min(max(2 - mean / second, 0.0), _HEAVIEST)
        return cls(float(start), k / (n + 1), shape, mean * (1 - shape))

    def survival(self, scores: Array) -> Array:
        """Probability of a normal score as high."""
        above = np.maximum(scores - self.start, 0.0) / self.scale
        rate = np.log1p(self.shape * above) / self.shape if self.shape else above
        return np.asarray(self.share * np.exp(-rate))

    def quantile(self, alpha: float) -> float:
        """Score that a normal image exceeds with probability `alpha`, below `share`."""
        rate = -np.log(alpha / self.share)
        above = np.expm1(self.shape * rate) / self.shape if self.shape else rate
        return float(self.start + self.scale * above)


@dataclass(frozen=True)
class Calibration:
    """What normal images score.

    Parameters
    ----------
    scores : array
        Leave-one-out image scores of normal images, float64, sorted, shape (n,).
    pixel_thresholds : array
        Values of their anomaly maps above which a share of `PIXEL_ALPHAS` of the pixels lies.

    Examples
    --------
    >>> calibration = Calibration(np.arange(1.0, 100.0), np.zeros(51))
    >>> p, extrapolated = calibration.p_values(np.array([50.0, 95.0, 300.0]))
    >>> p.round(4).tolist(), extrapolated.tolist()
    ([0.51, 0.06, 0.0], [False, False, True])
    >>> round(calibration.threshold(0.05), 9)
    95.0
    """

    scores: Array
    pixel_thresholds: Array

    @cached_property
    def tail(self) -> Tail | None:
        """What goes on beyond the highest score; None where there are too few to tell."""
        return Tail.fit(self.scores) if len(self.scores) >= LEAST_FOR_TAIL else None

    @property
    def resolution(self) -> float:
        """The lowest p-value that the sample itself can give."""
        return 1 / (len(self.scores) + 1)

    def p_values(self, scores: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Share of normal images that score as high, and whether that is extrapolated."""
        values = np.asarray(scores, np.float64)
        as_high = len(self.scores) - np.searchsorted(self.scores, values, side="left")
        p: Array = np.asarray((1 + as_high) * self.resolution)
        extrapolated: npt.NDArray[np.bool_] = np.asarray(as_high == 0)
        if self.tail is None:
            return p, np.zeros_like(extrapolated)
        beyond = np.maximum(self.tail.survival(values), np.finfo(float).tiny)
        return np.asarray(np.where(extrapolated, np.minimum(p, beyond), p)), extrapolated

    def threshold(self, alpha: float) -> float:
        """Lowest score whose p-value is at most `alpha`; infinite where none can be.

        It is the highest of them that the sample has, or a quantile of the tail.
        """
        return _threshold(self.scores, self.tail, alpha)

    def interval(self, alpha: float, draws: int = 400, seed: int = 0) -> tuple[float, float]:
        """Bootstrap interval, 90 %, of `threshold`: how far the choice of images moves it."""
        random = np.random.default_rng(seed)
        n = len(self.scores)
        found = []
        for _ in range(draws):
            drawn = np.sort(self.scores[random.integers(0, n, n)])
            tail = Tail.fit(drawn) if self.tail else None
            found.append(_threshold(drawn, tail, alpha))
        low, high = np.quantile(found, [0.05, 0.95], method="nearest")
        return float(low), float(high)

    def pixel_threshold(self, alpha: float) -> float:
        """Value of the anomaly map that a share `alpha` of normal pixels exceeds."""
        at, values = -np.log(PIXEL_ALPHAS), self.pixel_thresholds
        return float(np.interp(-np.log(alpha), at, values))


def _threshold(scores: Array, tail: Tail | None, alpha: float) -> float:
    n = len(scores)
    # p <= alpha where at most so many scores are as high.
    most = int(np.floor(alpha * (n + 1) * (1 + 1e-12))) - 1
    if most >= n:
        return -np.inf
    if most >= 1:
        return float(np.nextafter(scores[n - most - 1], np.inf))
    if tail is None:
        return float(np.nextafter(scores[-1], np.inf)) if most == 0 else np.inf
    beyond = float(np.nextafter(scores[-1], np.inf))
    return beyond if most == 0 else max(tail.quantile(alpha), beyond)


def benjamini_hochberg(p_values: npt.ArrayLike, rate: float) -> float:
    """Highest p-value to flag, so that of all that is flagged a share `rate` at most is false.

    Benjamini and Hochberg (1995): the expected share, for p-values that are independent or
    positively dependent, as those from one calibration sample are (Bates et al., 2023).

    Returns
    -------
    float
        Flag what is at most this; 0 where nothing is flagged.

    Examples
    --------
    >>> benjamini_hochberg([0.001, 0.02, 0.03, 0.9], 0.1)
    0.03
    """
    p = np.sort(np.asarray(p_values, np.float64))
    passed = np.flatnonzero(p <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    return float(p[passed[-1]]) if len(passed) else 0.0
