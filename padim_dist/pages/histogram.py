"""The chart of the histogram: one panel for each split."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from padim_dist.pages.charts import plain
from padim_dist.pages.data import Histogram, SplitCounts
from padim_dist.pages.svg import ALARM, BAND, FAINT, INK, PLAIN, make_rows, to_svg
from padim_dist.pages.words import counted

_SEVERAL = 50
"""Images in the highest bin above which the axis is logarithmic."""
_WIDE = 6.0
"""Inches from which on a figure is for a wide screen."""


def draw_histogram(histogram: Histogram, name: str = "histogram", width: float = 10.6) -> str:
    """Draw the scores of a run by split, flagged ones on top, with the threshold and its interval.

    Parameters
    ----------
    histogram : Histogram
        The counts.
    name : str
        Prefix of the ids of the figure.
    width : float
        Width in inches.
    """
    rows = len(histogram.splits)
    figure, panels = make_rows(width, 0.7 + (1.6 if rows > 1 else 2.4) * rows, rows)
    several = max(int(split.counts.max(initial=0)) for split in histogram.splits) > _SEVERAL
    for axes, split in zip(panels, histogram.splits, strict=True):
        _draw_split(axes, histogram, split)
        _count_axis(axes, several)
        flagged = int(split.flagged.sum())
        title = f"{split.name}: {counted(int(split.counts.sum()), 'image')}, {flagged:,} flagged"
        axes.set_title(title, loc="left", fontsize=9, color=INK)
    last, edges = panels[-1], histogram.edges
    widths = np.diff(edges)
    if histogram.of_p_values:
        last.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{10.0**-x:.2g}"))
        last.xaxis.get_major_locator().set_params(integer=True)
    elif edges[0] > 0 and widths[-1] > 2 * widths[0]:
        last.set_xscale("log")
        last.xaxis.set_major_formatter(FuncFormatter(plain))
        last.xaxis.set_minor_formatter(NullFormatter())
    for axes in panels:
        _draw_threshold(axes, histogram, with_note=axes is panels[0])
    kind = "p-value" if histogram.of_p_values else "score"
    how = " (smaller: more anomalous)" if histogram.of_p_values and width > _WIDE else ""
    last.set_xlabel(kind + how, color=FAINT, fontsize=9)
    total = sum(int(split.counts.sum()) for split in histogram.splits)
    flagged = sum(int(split.flagged.sum()) for split in histogram.splits)
    return to_svg(figure, name, f"Histogram of {counted(total, kind)}, {flagged:,} flagged")


def _draw_split(axes: Any, histogram: Histogram, split: SplitCounts) -> None:
    edges, widths = histogram.edges, np.diff(histogram.edges)
    unflagged = split.counts - split.flagged
    for counts, base, color in (
        (unflagged, 0 * unflagged, PLAIN),
        (split.flagged, unflagged, ALARM),
    ):
        some = np.flatnonzero(counts)  # a bar of no height is as long a text as another
        look: dict[str, Any] = {"align": "edge", "linewidth": 0, "color": color}
        axes.bar(edges[some], counts[some], widths[some], base[some], **look)
    axes.set_xlim(edges[0], edges[-1])
    if histogram.of_p_values:
        # Expected if all images are normal: their p-values are uniform between 0 and 1.
        expected = (10.0 ** -edges[:-1] - 10.0 ** -edges[1:]) * split.counts.sum()
        axes.step(edges, [*expected, expected[-1]], where="post", color=INK, linewidth=1)


def _count_axis(axes: Any, several: bool) -> None:
    axes.set_ylabel("images", color=FAINT, fontsize=9)
    if several:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (2.5 if several else 1.2))  # room for the note


def _draw_threshold(axes: Any, histogram: Histogram, with_note: bool) -> None:
    line = histogram.threshold
    if line is None:
        return
    if np.isfinite([line.low, line.high]).all() and line.high > line.low:
        axes.axvspan(line.low, line.high, color=BAND, linewidth=0, zorder=0)
    axes.axvline(line.value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if with_note:
        p_values = histogram.of_p_values
        note = f"p ≤ {10.0**-line.value:.3g}" if p_values else f"score ≥ {line.value:.3g}"
        _note(axes, line.value, f"flagged: {note}")


def _note(axes: Any, x: float, text: str) -> None:
    """Write text next to a line, on the side with more room."""
    ends = np.array([*axes.get_xlim(), x])
    low, high, at = np.log(ends) if axes.get_xscale() == "log" else ends
    side, gap = ("right", -4) if (at - low) / (high - low) > 0.6 else ("left", 4)
    look = {"ha": side, "va": "top", "fontsize": 9, "color": INK}
    axes.annotate(text, (x, 1.0), (gap, -2), ("data", "axes fraction"), "offset points", **look)
