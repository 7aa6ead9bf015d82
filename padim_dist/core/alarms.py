"""Alarm rules: from a setting to the highest flagged p-value, the cut-off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

RuleName = Literal["alpha", "per_million", "false_alarms_per_run", "fdr"]
_HIGHEST = 0.5  # largest share of normal images that a run may flag
_FORMER = {"a_run": "false_alarms_per_run"}  # by names in version 0.1, which run ids still use
_WORDS: dict[RuleName, str] = {
    "alpha": "target: {percent:.3g} % of normal images",
    "per_million": "target: {asked:g} false alarm{s} per million images",
    "false_alarms_per_run": "target: {asked:g} false alarm{s} per run",
    "fdr": "at most {percent:.3g} % of the flagged images may be false alarms",
}


@dataclass(frozen=True)
class Alarms:
    """How a run decides which images are flagged.

    Attributes
    ----------
    rule : str
        ``"alpha"``, ``"per_million"``, ``"false_alarms_per_run"`` or ``"fdr"``.
    asked : float
        The value of the setting with that name.
    alpha : float
        Highest p-value to flag; under ``fdr`` the highest that can be flagged.

    Examples
    --------
    >>> Alarms.plan(10_000, per_million=50)
    Alarms(rule='per_million', asked=50, alpha=5e-05)
    >>> Alarms.plan(10_000, false_alarms_per_run=20).alpha
    0.002
    """

    rule: RuleName
    asked: float
    alpha: float

    @classmethod
    def plan(
        cls,
        images: int,
        *,
        alpha: float = 0.001,
        per_million: float | None = None,
        false_alarms_per_run: float | None = None,
        fdr: float | None = None,
    ) -> Alarms:
        """Return the rule of these settings for a run of `images` images."""
        if per_million is not None:
            return cls("per_million", per_million, per_million / 1_000_000)
        if false_alarms_per_run is not None:
            share = min(false_alarms_per_run / max(images, 1), _HIGHEST)
            return cls("false_alarms_per_run", false_alarms_per_run, share)
        if fdr is not None:
            return cls("fdr", fdr, fdr)
        return cls("alpha", alpha, alpha)

    @staticmethod
    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a rule that any version wrote, under the names of this one."""
        rule = values.get("rule")
        return {**values, "rule": _FORMER.get(str(rule), rule)}

    def identity(self) -> dict[str, Any]:
        """Return the values that enter a run's id, the same as in earlier versions."""
        former = {new: old for old, new in _FORMER.items()}
        return {**asdict(self), "rule": former.get(self.rule, self.rule)}

    @property
    def needs_all(self) -> bool:
        """Whether the cut-off depends on all images and is known only when the run is finished."""
        return self.rule == "fdr"

    def find_cutoff(self, p_values: npt.ArrayLike) -> float:
        """Return the highest p-value to flag in a finished run; 0 where nothing is flagged."""
        return benjamini_hochberg(p_values, self.asked) if self.needs_all else self.alpha

    def known_cutoff(self, found: float | None, finished: bool) -> float | None:
        """Return the cut-off of a run, `found` if the run stores one; None while unknown."""
        if not self.needs_all:
            return self.alpha
        return (found or 0.0) if finished else None

    def describe(self) -> str:
        """Return the rule in words.

        Examples
        --------
        >>> Alarms("fdr", 0.1, 0.1).describe()
        'at most 10 % of the flagged images may be false alarms'
        """
        s = "" if self.asked == 1 else "s"
        return _WORDS[self.rule].format(asked=self.asked, percent=100 * self.asked, s=s)


def is_flagged(p_values: npt.ArrayLike, cutoff: float) -> npt.NDArray[np.bool_]:
    """Return which p-values are flagged at a cut-off."""
    return np.asarray(p_values) <= cutoff


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
