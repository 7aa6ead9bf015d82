"""Charts of the report: trends over time, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from matplotlib import dates
from matplotlib.ticker import FuncFormatter

from padim_dist.pages.data import DriftPoint, Points, Week
from padim_dist.pages.svg import (
    ALARM,
    BAND,
    FAINT,
    INK,
    LINE,
    PLAIN,
    make_figure,
    make_rows,
    to_svg,
)
from padim_dist.pages.words import counted

_CURVES = 40
"""Most curves in one chart."""
_WEEK_LABELS = 10
"""Most weeks that are named on an axis."""


def draw_trend(points: Sequence[DriftPoint], limit: float, run_at: str | None) -> str:
    """Draw the drift of each group in each run; up to the end of the band it is no change."""
    figure, axes = make_figure(10.6, 2.8)
    names = sorted({point.group for point in points})
    worst = max(names, key=lambda name: max(p.z for p in points if p.group == name))
    band = axes.axhspan(-limit, limit, color=BAND, linewidth=0, zorder=0)
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
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
    bottom, _ = axes.get_ylim()  # a low drift is no change, however low
    band.set_y(bottom)
    band.set_height(limit - bottom)
    axes.set_ylim(bottom)
    _date_axis(axes)
    axes.set_ylabel("drift (standard deviations)", color=FAINT, fontsize=9)
    label = f"Drift of {counted(len(names), 'group')} in the runs of this model"
    return to_svg(figure, "trend", label)


def draw_weeks(weeks: Sequence[Week]) -> str:
    """Draw the flagged share and the number of images of each week."""
    figure, (shares, images) = make_rows(10.6, 3.6, 2)
    days = [datetime.strptime(f"{week.week}-1", "%G-W%V-%u") for week in weeks]
    known = [
        (day, 100 * week.flagged_share)
        for day, week in zip(days, weeks, strict=True)
        if week.flagged_share is not None
    ]
    shares.plot(*zip(*known, strict=True), marker="o", color=ALARM, linewidth=1.6, markersize=4)
    shares.set_ylim(bottom=0)
    shares.set_ylabel("flagged (%)", color=FAINT, fontsize=9)
    images.bar(days, [week.images for week in weeks], 5, color=PLAIN, linewidth=0)
    images.yaxis.set_major_formatter(FuncFormatter(plain))
    images.yaxis.get_major_locator().set_params(integer=True)
    images.set_ylabel("images", color=FAINT, fontsize=9)
    step = -(-len(weeks) // _WEEK_LABELS)
    images.set_xticks(days[::step], [week.week for week in weeks[::step]])
    images.set_xlabel("week", color=FAINT, fontsize=9)
    return to_svg(figure, "weeks", f"Flagged share and images of {counted(len(weeks), 'week')}")


def draw_curves(
    name: str, curves: Sequence[Points], marks: Sequence[tuple[float, float]] = ()
) -> str:
    """Draw curves of groups: ``"roc"``, ``"pixels"`` (ROC of pixels) or ``"pro"``.

    Per-region overlap is drawn up to the false-positive rate of the PRO score. Points `marks` are
    marked by dots.
    """
    right, y = (0.3, "per-region overlap") if name == "pro" else (1.0, "true-positive rate")
    figure, axes = make_figure(3.6, 3.2)
    if right == 1.0:
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
    known = [curve for curve in curves if len(curve)]
    for curve in known[:_CURVES]:
        axes.plot(*zip(*curve, strict=True), color=ALARM, linewidth=1.6 if len(known) == 1 else 0.8)
    for x, share in marks[:_CURVES]:
        axes.plot([x], [share], marker="o", markersize=6, color=INK, linestyle="", clip_on=False)
    axes.set_xlim(-0.01 * right, right)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false-positive rate", color=FAINT, fontsize=9)
    axes.set_ylabel(y, color=FAINT, fontsize=9)
    return to_svg(figure, name, f"Curve of {y} against false-positive rate")


def plain(value: float, _: object) -> str:
    """Format a tick of an axis."""
    return f"{value:,.10g}"


def _date_axis(axes: Any) -> None:
    clock: Any = dates
    locator = clock.AutoDateLocator(maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(clock.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_color(FAINT)
