"""Charts of the report: histogram, drift over time, curves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib import dates
from matplotlib.ticker import FuncFormatter, NullFormatter

from padim_dist.pages.data import DriftPoint, Histogram, Points
from padim_dist.pages.svg import ALARM, BAND, FAINT, INK, LINE, PLAIN, make_figure, to_svg
from padim_dist.pages.words import counted

_SEVERAL = 50
"""Images in the highest bin above which the axis is logarithmic."""
_CURVES = 40
"""Most curves in one chart."""


def draw_histogram(histogram: Histogram) -> str:
    """Draw the scores of a run, flagged ones on top, with the threshold and its interval."""
    figure, axes = make_figure(10.6, 3.1)
    edges, p_values = histogram.edges, histogram.of_p_values
    plain = histogram.counts - histogram.flagged
    widths = np.diff(edges)
    axes.bar(edges[:-1], plain, widths, align="edge", color=PLAIN, linewidth=0)
    axes.bar(edges[:-1], histogram.flagged, widths, plain, align="edge", color=ALARM, linewidth=0)
    if p_values:
        # Expected if all images are normal: their p-values are uniform between 0 and 1.
        expected = (10.0 ** -edges[:-1] - 10.0 ** -edges[1:]) * histogram.counts.sum()
        axes.step(edges, [*expected, expected[-1]], where="post", color=INK, linewidth=1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{10.0**-x:.2g}"))
        axes.xaxis.get_major_locator().set_params(integer=True)
    elif edges[0] > 0 and widths[-1] > 2 * widths[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if histogram.counts.max(initial=0) > _SEVERAL:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.get_major_locator().set_params(integer=True)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (2.5 if axes.get_yscale() == "log" else 1.15))  # room for the note
    line = histogram.threshold
    if line is not None:
        if np.isfinite([line.low, line.high]).all() and line.high > line.low:
            axes.axvspan(line.low, line.high, color=BAND, linewidth=0, zorder=0)
        axes.axvline(line.value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        note = f"p ≤ {10.0**-line.value:.3g}" if p_values else f"score ≥ {line.value:.3g}"
        _note(axes, line.value, f"flagged: {note}")
    name = "p-value" if p_values else "score"
    axes.set_xlabel(name, color=FAINT, fontsize=9)
    axes.set_ylabel("images", color=FAINT, fontsize=9)
    total, flagged = int(histogram.counts.sum()), int(histogram.flagged.sum())
    return to_svg(figure, "histogram", f"Histogram of {counted(total, name)}, {flagged:,} flagged")


def draw_trend(points: Sequence[DriftPoint], limit: float, run_at: str | None) -> str:
    """Draw the drift of each group in each run; the band is no significant change."""
    figure, axes = make_figure(10.6, 2.8)
    names = sorted({point.group for point in points})
    worst = max(names, key=lambda name: max(p.z for p in points if p.group == name))
    axes.axhspan(-limit, limit, color=BAND, linewidth=0, zorder=0)
    for name in names[:_CURVES]:
        own = [point for point in points if point.group == name]
        color, width, size, order = (ALARM, 1.6, 4, 3) if name == worst else (PLAIN, 1.0, 3, 2)
        look = {"color": color, "linewidth": width, "markersize": size, "zorder": order}
        times = [datetime.fromisoformat(point.at) for point in own]
        axes.plot(times, [point.z for point in own], marker="o", **look)
    if run_at is not None:
        axes.axvline(datetime.fromisoformat(run_at), color=LINE, linewidth=1, zorder=1)
    if max(abs(point.z) for point in points) > 10 * limit:
        axes.set_yscale("symlog", linthresh=limit)
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    clock: Any = dates
    locator = clock.AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(clock.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_color(FAINT)
    axes.set_ylabel("drift (standard deviations)", color=FAINT, fontsize=9)
    label = f"Drift of {counted(len(names), 'group')} in the runs of this model"
    return to_svg(figure, "trend", label)


def draw_curves(name: str, curves: Sequence[Points]) -> str:
    """Draw curves of groups: ``"roc"``, ``"pixels"`` (ROC of pixels) or ``"pro"``.

    Per-region overlap is drawn up to the false-positive rate of the PRO score.
    """
    right, y = (0.3, "per-region overlap") if name == "pro" else (1.0, "true-positive rate")
    figure, axes = make_figure(3.6, 3.2)
    if right == 1.0:
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
    known = [curve for curve in curves if len(curve)]
    for curve in known[:_CURVES]:
        axes.plot(*zip(*curve, strict=True), color=ALARM, linewidth=1.6 if len(known) == 1 else 0.8)
    axes.set_xlim(-0.01 * right, right)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false-positive rate", color=FAINT, fontsize=9)
    axes.set_ylabel(y, color=FAINT, fontsize=9)
    return to_svg(figure, name, f"Curve of {y} against false-positive rate")


def _note(axes: Any, x: float, text: str) -> None:
    """Write text next to a line, on the side with more room."""
    ends = np.array([*axes.get_xlim(), x])
    low, high, at = np.log(ends) if axes.get_xscale() == "log" else ends
    side, gap = ("right", -4) if (at - low) / (high - low) > 0.6 else ("left", 4)
    look = {"ha": side, "va": "top", "fontsize": 9, "color": INK}
    axes.annotate(text, (x, 1.0), (gap, -2), ("data", "axes fraction"), "offset points", **look)


def _plain(value: float, _: object) -> str:
    return f"{value:,.10g}"
