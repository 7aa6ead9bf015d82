"""P-values and thresholds with a known false-alarm rate, from scores of normal images.

The scores are leave-one-out scores (`left_out`), so that they are distributed like scores
of new normal images. The p-value of a score is the share of them that is at least as high
(conformal prediction: Vovk, Gammerman and Shafer, 2005). Above the highest score p-values
come from a generalised Pareto tail and are marked as extrapolated.

A defective image among the normal ones pulls the Gaussian towards itself. Its leave-one-out score
shows it nevertheless: it is what a model of all the others says of it. So it is a suspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]

LEAST_IMAGES = 3
"""Images that a group needs to be calibrated: one to leave out, two for a covariance."""
LEAST_FOR_TAIL = 20
"""Least number of scores for a tail. Below it the lowest p-value is 1 / (n + 1)."""
PIXEL_ALPHAS = np.logspace(-1, -6, 51)
"""Shares of normal pixels whose thresholds a model stores."""
LEAST_FOR_SUSPECTS = 20
"""Least number of scores from which suspects are told: of fewer, the spread is too uncertain."""
_TAIL_SHARE = 0.1
_MIN_EXCESSES = 10
_MAX_SHAPE = 0.5
_MAX_LEVERAGE = 1.0 - 1e-6
_DEVIATIONS = 4.0
_NORMAL = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""
_LEAST_SPREAD = 0.01
"""Least spread as a share of the median, so that images that are nearly alike have no suspects."""


def left_out(squares: Tensor, count: int, kept: Tensor | float = 1.0) -> Tensor:
    """Return leave-one-out squared distances (G_0, N) of fitted images from a model of the others.

    Leaving out an image changes mean and scatter by one rank-one step. By the formula of
    Sherman and Morrison its distance from the others is a function of its distance from the
    model, patch by patch, without another fit. With the squared distance ``m``, ``n``
    images and ``h = n m / (n - 1)^2`` it is::

        (n / (n - 1))^2 (n - 2) / (n - 1) m / (1 - h)

    This is exact if the covariance of the others is regularised by epsilon (n - 1) / (n - 2).

    Parameters
    ----------
    squares : Tensor
        Squared Mahalanobis distances (G_0, N) of images in the model.
    count : int
        Number of images n in the model.
    kept : Tensor or float, optional
        Weight of the empirical covariance, (G_0, 1). Weight and target of the shrinkage
        are taken as fixed.

    Raises
    ------
    ValueError
        If `count` is below 3: fewer than 2 other images have no covariance.
    """
    if count < LEAST_IMAGES:
        raise ValueError(f"leave-one-out needs at least 3 images; found {count}")
    n = float(count)
    leverage = (squares * kept * (n / (n - 1) ** 2)).clamp(max=_MAX_LEVERAGE)
    return squares / (1 - leverage) * (n * n * (n - 2) / (n - 1) ** 3)


def suspect_threshold(scores: npt.ArrayLike) -> float:
    """Return the leave-one-out score above which an image is a suspect.

    It is the median plus four robust standard deviations (1.4826 median absolute deviations),
    which fewer than half of the images cannot move far. With fewer than `LEAST_FOR_SUSPECTS` scores
    it is infinite.

    Parameters
    ----------
    scores : array
        Leave-one-out scores of a group's normal images, shape (n,).

    Examples
    --------
    >>> scores = [*np.linspace(20, 30, 40), 49.8]
    >>> round(suspect_threshold(scores))
    40
    """
    values = np.asarray(scores, np.float64)
    if len(values) < LEAST_FOR_SUSPECTS:
        return float("inf")
    median = float(np.median(values))
    spread = _NORMAL * float(np.median(np.abs(values - median)))
    return median + _DEVIATIONS * max(spread, _LEAST_SPREAD * median)


def choose_dropped(scores: npt.ArrayLike, most: int) -> list[int]:
    """Return the places of the suspects to drop: at most `most`, the highest scores first.

    Equal scores are in the order of their places, so that the choice never depends on chance.

    Examples
    --------
    >>> choose_dropped([*np.linspace(20, 30, 40), 60.0, 49.8], 1)
    [40]
    """
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    suspects = order[values[order] > suspect_threshold(values)]
    return [int(place) for place in suspects[: max(most, 0)]]


def decisive_pixels(pixels: int) -> int:
    """Return how many of the highest pixel values determine the thresholds of `PIXEL_ALPHAS`."""
    return pixels - int((1 - PIXEL_ALPHAS[0]) * (pixels - 1)) if pixels else 0


def keep_highest(values: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """Return the `most` highest values, unordered; all values if there are no more."""
    return values if len(values) <= most else np.partition(values, -most)[-most:]


def pixel_thresholds(highest: npt.NDArray[np.float32], pixels: int) -> Array:
    """Return the value that each share in `PIXEL_ALPHAS` of the pixels exceeds.

    Parameters
    ----------
    highest : array
        At least the `decisive_pixels` highest pixel values, sorted.
    pixels : int
        Number of all pixels.
    """
    at = (1 - PIXEL_ALPHAS) * (pixels - 1) - (pixels - len(highest))
    return np.interp(at, np.arange(len(highest)), highest)


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto tail above a threshold.

    Attributes
    ----------
    start, share : float
        The threshold, and the probability that a normal score exceeds it.
    shape, scale : float
        Parameters of the distribution of the excesses. The shape is at least 0
        (exponential), so that no score is impossible.
    """

    start: float
    share: float
    shape: float
    scale: float

    @classmethod
    def fit(cls, scores: Array) -> Tail:
        """Fit the highest tenth of sorted scores by L-moments (Hosking and Wallis, 1987)."""
        n = len(scores)
        k = max(_MIN_EXCESSES, int(n * _TAIL_SHARE))
        start, excesses = scores[n - k - 1], scores[n - k :] - scores[n - k - 1]
        mean = float(excesses.mean())
        weighted = float(excesses @ np.arange(k)) / (k * (k - 1))
        second = 2 * weighted - mean  # the second L-moment: half the mean difference of two
        if mean <= 0 or second <= 0:  # all equal: any higher score is far out
            return cls(float(start), k / (n + 1), 0.0, max(mean, np.finfo(float).tiny))
        shape = min(max(2 - mean / second, 0.0), _MAX_SHAPE)
        return cls(float(start), k / (n + 1), shape, mean * (1 - shape))

    def survival(self, scores: Array) -> Array:
        """Return the probability that a normal score is at least as high."""
        with np.errstate(over="ignore"):  # the scale of scores that are all equal is tiny
            above = np.maximum(scores - self.start, 0.0) / self.scale
        rate = np.log1p(self.shape * above) / self.shape if self.shape else above
        return np.asarray(self.share * np.exp(-rate))

    def quantile(self, alpha: float) -> float:
        """Return the score that a normal image exceeds with probability `alpha` < `share`."""
        rate = -np.log(alpha / self.share)
        above = np.expm1(self.shape * rate) / self.shape if self.shape else rate
        return float(self.start + self.scale * above)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a group: scores and pixel values of its normal images.

    Parameters
    ----------
    scores : array
        Leave-one-out image scores of normal images, float64, sorted, shape (n,).
    pixel_thresholds : array
        Map value that each share in `PIXEL_ALPHAS` of their pixels exceeds, shape (51,).

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
        """Tail for scores above the highest; None with fewer than `LEAST_FOR_TAIL` scores."""
        return Tail.fit(self.scores) if len(self.scores) >= LEAST_FOR_TAIL else None

    @property
    def resolution(self) -> float:
        """Lowest p-value without the tail: 1 / (n + 1)."""
        return 1 / (len(self.scores) + 1)

    def resolution_without(self, own: float) -> float:
        """Return `resolution` for an image with this score in the sample; NaN: it is not in it."""
        return self.resolution if np.isnan(own) else 1 / len(self.scores)

    def p_values(
        self, scores: npt.ArrayLike, own: npt.ArrayLike = np.nan
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return the share of normal images that score as high, and whether it is extrapolated.

        Parameters
        ----------
        scores : array
            Image scores, shape (m,).
        own : array, optional
            For images that are in the calibration sample: their score in it, which is left out of
            the sample. NaN for all others. Shape (m,).

        Examples
        --------
        >>> calibration = Calibration(np.arange(1.0, 10.0), np.zeros(51))
        >>> calibration.p_values([9.0, 9.0], [np.nan, 9.0])[0].round(3).tolist()
        [0.2, 0.111]
        """
        values = np.asarray(scores, np.float64)
        own = np.broadcast_to(np.asarray(own, np.float64), values.shape)
        is_in = np.isfinite(own)
        others = len(self.scores) - is_in
        as_high = len(self.scores) - np.searchsorted(self.scores, values, side="left")
        as_high = np.asarray(as_high - (is_in & (own >= values)))
        p: Array = np.asarray((1 + as_high) / (1 + others))
        extrapolated: npt.NDArray[np.bool_] = np.asarray(
            (as_high == 0) & (others >= LEAST_FOR_TAIL)
        )
        for place in np.argwhere(extrapolated):
            at = tuple(place)
            tail = self._tail_without(float(own[at]))
            beyond = max(float(tail.survival(values[at])), np.finfo(float).tiny)
            p[at] = min(p[at], beyond)
        return p, extrapolated

    def _tail_without(self, own: float) -> Tail:
        """Return the tail of the sample without a score of it; NaN: of the whole sample."""
        if np.isnan(own):
            assert self.tail is not None
            return self.tail
        return Tail.fit(np.delete(self.scores, np.searchsorted(self.scores, own)))

    def threshold(self, alpha: float) -> float:
        """Return the lowest score whose p-value is at most `alpha`; infinite if there is none."""
        return _threshold(self.scores, self.tail, alpha)

    def interval(self, alpha: float, draws: int = 400, seed: int = 0) -> tuple[float, float]:
        """Return the 90 % bootstrap interval of `threshold`."""
        random = np.random.default_rng(seed)
        n = len(self.scores)
        samples = (np.sort(self.scores[random.integers(0, n, n)]) for _ in range(draws))
        found = [_threshold(some, Tail.fit(some) if self.tail else None, alpha) for some in samples]
        low, high = np.quantile(found, [0.05, 0.95], method="nearest")
        return float(low), float(high)

    def pixel_threshold(self, alpha: float) -> float:
        """Return the map value that a share `alpha` of normal pixels exceeds."""
        return float(np.interp(-np.log(alpha), -np.log(PIXEL_ALPHAS), self.pixel_thresholds))


def _threshold(scores: Array, tail: Tail | None, alpha: float) -> float:
    n = len(scores)
    # p <= alpha if at most this many scores are as high.
    most = int(np.floor(alpha * (n + 1) * (1 + 1e-12))) - 1
    if most >= n:
        return -np.inf
    if most >= 0:
        return float(np.nextafter(scores[n - most - 1], np.inf))
    return max(tail.quantile(alpha), float(np.nextafter(scores[-1], np.inf))) if tail else np.inf
