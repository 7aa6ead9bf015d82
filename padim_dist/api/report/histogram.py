"""The report's histogram, by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from padim_dist.api.report.verdicts import Verdicts
from padim_dist.pages.data import FlagSummary, Histogram, SplitCounts, Threshold

_BINS = 60
_LONG_TAIL = 20
"""The axis of scores is logarithmic if the highest is more than this times the median."""
_SPLITS = 4
"""Most panels; smaller splits are counted together."""


def histogram_of(
    verdicts: Verdicts,
    alarms: FlagSummary | None,
    cutoff: float | None,
    lines: Mapping[str, Threshold],
    groups: Sequence[str],
) -> Histogram | None:
    """Return the histogram: scores of one group with its threshold, or p-values of several.

    Parameters
    ----------
    verdicts : Verdicts
        The score table.
    alarms : FlagSummary or None
        What is flagged.
    cutoff : float or None
        Highest flagged p-value, if it is the same in all groups.
    lines : mapping of str to Threshold
        Thresholds by group.
    groups : sequence of str
        All groups.

    Returns
    -------
    Histogram or None
        None if there is no score.
    """
    of_p_values = alarms is not None and alarms.judged > 0 and len(groups) > 1
    values, flagged, splits = verdicts.values("p_value" if of_p_values else "score")
    if not len(values):
        return None
    line = lines.get(groups[0]) if len(groups) == 1 else None
    if of_p_values:
        values = -np.log10(np.maximum(values, 1e-300))
        if cutoff:
            line = Threshold(*(3 * [float(-np.log10(cutoff))]))
    ends = [values.min(), values.max(), *([line.value] if line else [])]
    low, high = (0.0 if of_p_values else float(min(ends))), float(max(ends))
    high += max(1e-6, 0.02 * (high - low))
    if not of_p_values and low > 0 and high > _LONG_TAIL * float(np.median(values)):
        edges = np.geomspace(low, high, _BINS + 1)
    else:
        edges = np.linspace(low, high, _BINS + 1)
    edges[0] = min(edges[0], values.min())
    names, sizes = np.unique(splits, return_counts=True)
    largest = [str(name) for name in names[np.argsort(-sizes, kind="stable")][:_SPLITS]]
    if len(names) > _SPLITS:
        splits = np.where(np.isin(splits, largest[:-1]), splits, "other splits")
        largest[-1] = "other splits"
    counts = []
    for name in largest:
        own = splits == name
        of_all, _ = np.histogram(values[own], edges)
        of_flagged, _ = np.histogram(values[own & flagged], edges)
        counts.append(SplitCounts(name, of_all, of_flagged))
    return Histogram(edges, counts, of_p_values, line)
