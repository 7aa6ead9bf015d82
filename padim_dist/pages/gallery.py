"""What the report says about its gallery: near misses, the threshold, the colours."""

from __future__ import annotations

import io
from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np

from padim_dist.pages import words
from padim_dist.pages.data import ReportData
from padim_dist.pages.heat import HeatScale, heat_layer

_NEAR_MISSES = 24
"""Images after the threshold that are shown at first."""


@dataclass(frozen=True)
class HeatLegend:
    """Colour bar of the heatmaps.

    Attributes
    ----------
    bar : bytes
        PNG of the colours.
    start, middle, top : str
        Words at its start, middle and end.
    note : str
        One sentence.
    """

    bar: bytes
    start: str
    middle: str
    top: str
    note: str


@dataclass(frozen=True)
class GalleryTexts:
    """Texts and choices of the gallery.

    Attributes
    ----------
    note : str
        What is shown.
    near : set of str
        Ids of the near misses.
    divider : int or None
        Place of the first image that is not flagged, where `threshold` is written.
    threshold : str
        The threshold in words.
    groups, labels : list of str
        Values of the filters.
    legend : HeatLegend or None
        None without heatmaps.
    unseen : str
        Share of every image that the trunk does not see, e.g. ``"23 %"``; empty if it sees all.
    """

    note: str
    near: Set[str]
    divider: int | None
    threshold: str
    groups: list[str]
    labels: list[str]
    legend: HeatLegend | None
    unseen: str


def gallery_texts(data: ReportData) -> GalleryTexts:
    """Return the texts of the gallery of a report."""
    rows = [item.row for item in data.anomalies]
    missing = [place for place, row in enumerate(rows) if not row.flagged]
    divider = missing[0] if data.alarms and missing else None
    near = {rows[place].image_id for place in missing[:_NEAR_MISSES]} if data.alarms else set()
    return GalleryTexts(
        note=_note(data, len(rows) - len(missing), len(near)),
        near=near,
        divider=divider,
        threshold=_threshold(data),
        groups=sorted({str(row.group) for row in rows}),
        labels=sorted({row.label for row in rows if row.label}),
        legend=_legend(data.scales) if any(item.heat for item in data.anomalies) else None,
        unseen=f"{100 * data.unseen:.0f} %" if data.unseen else "",
    )


def _note(data: ReportData, flagged: int, near: int) -> str:
    of = words.counted(data.scored, "scored image")
    shown = f"{len(data.anomalies):,} of {of}, the most anomalous first"
    if data.alarms is None:
        return f"{shown}. They are sorted by score, since the model has no calibration."
    left = data.alarms.flagged - flagged
    more = f" ({left:,} more flagged ones are in the score table)" if left > 0 else ""
    nearest = f"and the next {near:,} (near misses) " if near else ""
    return f"{shown}: {flagged:,} flagged{more}. The flagged ones {nearest}are shown at first."


def _threshold(data: ReportData) -> str:
    line = data.histogram.threshold if data.histogram else None
    if line is None or data.histogram is None:
        where = "Threshold of the group" if len(data.groups) > 1 else "Threshold"
    elif data.histogram.of_p_values:
        where = f"Threshold: p ≤ {words.probability(10.0**-line.value)}"
    else:
        where = f"Threshold: score ≥ {words.score(line.value)}"
    return f"{where}. The images below are not flagged."


def _legend(scales: Mapping[str, HeatScale]) -> HeatLegend:
    bar = io.BytesIO()
    heat_layer(np.linspace(0, 1, 128)[None]).save(bar, "PNG", optimize=True)
    known = all(scale.is_threshold for scale in scales.values())
    one = next(iter(scales.values())) if len(scales) == 1 else None
    middle = "threshold" if known else "high"
    if one and known:
        note = "All images have the same scale: red is the threshold."
    elif known:
        note = "The images of a group have the same scale: red is its threshold."
    else:
        note = (
            "The images of a group have the same scale: red is its threshold or, where that is "
            "not known, a high score."
        )
    return HeatLegend(
        bar=bar.getvalue(),
        start=f"usual {words.few(one.start)}" if one else "usual",
        middle=f"{middle} {words.few(one.middle)}" if one else middle,
        top=words.few(one.top) if one else "far above",
        note=note,
    )
