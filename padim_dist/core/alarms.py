"""Alarm rules: from a setting to the highest flagged p-value, the cut-off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

RuleName = Literal["alpha", "auto", "per_million", "false_alarms_per_run", "fdr", "review"]
RULES = ("alpha", "per_million", "false_alarms_per_run", "fdr", "review")
"""Settings that give the rule of a run: one at a time. The first is the default."""
LEAST_ALPHA = 0.001
"""Lowest share of normal images that the rule ``auto`` flags."""
_HIGHEST = 0.5  # largest share of normal images that a run may flag
_FORMER = {"a_run": "false_alarms_per_run"}  # names of rules in version 0.1
_WORDS: dict[RuleName, str] = {
    "alpha": "target: {percent:.3g} % of normal images",
    "auto": "auto: p <= 1 / (n + 1) for n normal images, {percent:.3g} % at least",
    "per_million": "target: {asked:g} false alarm{s} per million images",
    "false_alarms_per_run": "target: {asked:g} false alarm{s} per run",
    "fdr": "at most {percent:.3g} % of the flagged images may be false alarms",
    "review": "the {asked:g} most anomalous image{s}",
}


@dataclass(frozen=True)
class Alarms:
    """How a run decides which images are flagged.

    Attributes
    ----------
    rule : str
        ``"alpha"``, ``"auto"``, ``"per_million"``, ``"false_alarms_per_run"``, ``"fdr"`` or
        ``"review"``.
    asked : float
        The value of the setting with that name; of ``auto`` the lowest share, `LEAST_ALPHA`.
    alpha : float or None
        Highest p-value to flag. Under ``auto`` a group with few normal images has a higher one;
        under ``fdr`` it is the highest that can be flagged; ``review`` has none.

    Examples
    --------
    >>> Alarms.plan(10_000, per_million=50)
    Alarms(rule='per_million', asked=50, alpha=5e-05)
    >>> Alarms.plan(10_000, false_alarms_per_run=20).alpha
    0.002
    >>> Alarms.plan(10_000, review=50).alpha is None
    True
    """

    rule: RuleName
    asked: float
    alpha: float | None

    @classmethod
    def plan(
        cls,
        images: int,
        *,
        alpha: float | Literal["auto"] = "auto",
        per_million: float | None = None,
        false_alarms_per_run: float | None = None,
        fdr: float | None = None,
        review: int | None = None,
    ) -> Alarms:
        """Return the rule of these settings for a run of `images` images."""
        if per_million is not None:
            return cls("per_million", per_million, per_million / 1_000_000)
        if false_alarms_per_run is not None:
            share = min(false_alarms_per_run / max(images, 1), _HIGHEST)
            return cls("false_alarms_per_run", false_alarms_per_run, share)
        if fdr is not None:
            return cls("fdr", fdr, fdr)
        if review is not None:
            return cls("review", review, None)
        if alpha == "auto":
            return cls("auto", LEAST_ALPHA, LEAST_ALPHA)
        return cls("alpha", alpha, alpha)

    @staticmethod
    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a rule that any version wrote, under the names of this one."""
        rule = values.get("rule")
        return {**values, "rule": _FORMER.get(str(rule), rule)}

    @property
    def is_by_rank(self) -> bool:
        """Whether a number of images is flagged, whatever their p-values."""
        return self.rule == "review"

    @property
    def needs_all(self) -> bool:
        """Whether the cut-off depends on all images and is known only when the run is finished."""
        return self.rule in ("fdr", "review")

    @property
    def follows_resolution(self) -> bool:
        """Whether a group's cut-off is its resolution, 1 / (n + 1), where that is higher."""
        return self.rule == "auto"

    def likely(self, resolution: float) -> float:
        """Return the highest p-value that is probably flagged, in a group of this resolution."""
        alpha = LEAST_ALPHA if self.alpha is None else self.alpha
        return max(alpha, resolution) if self.follows_resolution or self.is_by_rank else alpha

    def describe(self) -> str:
        """Return the rule in words.

        Examples
        --------
        >>> Alarms("fdr", 0.1, 0.1).describe()
        'at most 10 % of the flagged images may be false alarms'
        """
        s = "" if self.asked == 1 else "s"
        return _WORDS[self.rule].format(asked=self.asked, percent=100 * self.asked, s=s)


@dataclass(frozen=True)
class LastFlagged:
    """The least anomalous flagged image of a rule by rank; the order is that of `MOST_ANOMALOUS`.

    `p_value` is None if the model has no calibration.
    """

    p_value: float | None
    score: float
    uri: str
    member: str | None


@dataclass(frozen=True)
class Judgement:
    """A rule applied to a run: which of its images are flagged.

    Attributes
    ----------
    alarms : Alarms
        The rule.
    cutoff : float or None
        Highest p-value that is flagged, 0 where nothing is; None while it is not known, and for a
        rule by rank.
    last : LastFlagged or None
        The last flagged image of a rule by rank.
    flagged : int or None
        Flagged images; None while it is not known, or if the model has no calibration.
    """

    alarms: Alarms
    cutoff: float | None = None
    last: LastFlagged | None = None
    flagged: int | None = None


def benjamini_hochberg(p_values: npt.ArrayLike, rate: float) -> float:
    """Return the highest p-value to flag so that at most a share `rate` of the flags is false.

    0 where nothing is flagged.
    Benjamini and Hochberg (1995): the expected share, for p-values that are independent or
    positively dependent, as those from one calibration sample are (Bates et al., 2023).

    Examples
    --------
    >>> benjamini_hochberg([0.001, 0.02, 0.03, 0.9], 0.1)
    0.03
    """
    p = np.sort(np.asarray(p_values, np.float64))
    passed = np.flatnonzero(p <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    return float(p[passed[-1]]) if len(passed) else 0.0
