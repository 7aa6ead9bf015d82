"""The report of a run as one HTML file that works offline.

The content security policy allows pictures from data URIs, and the inline style and script by
their digests. So no file name or other data can run or load anything, even if escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from padim_dist.pages import words
from padim_dist.pages.charts import (
    draw_histogram,
    draw_pixel_roc,
    draw_pro,
    draw_roc,
    draw_trend,
)
from padim_dist.pages.data import LabelledGroup, ReportData, ReportHead
from padim_dist.pages.heat import heat_layer

REGIONS_SHOWN = 20
"""Most regions shown of one image."""
_LEAST_SCALE = 8.0
"""Least drift of the hottest colour in drift maps, in multiples of the expected value."""


def render(data: ReportData, version: str) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    data : ReportData
        Contents of the report; text in it is never read as markup.
    version : str
        Version of this package.
    """
    environment = Environment(
        loader=PackageLoader("padim_dist.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(
        count=words.count,
        counted=words.counted,
        few=words.few,
        score=words.score,
        p=words.probability,
        metric=words.metric,
        interval=words.interval,
        pair=words.pair,
        percent_pair=words.percent_pair,
        minute=words.minute,
        words=words.words,
        full_name=words.full_name,
        described=words.described,
        flagged_share=words.flagged_share,
        webp=lambda picture: _data_uri("image/webp", picture),
        png=lambda picture: _data_uri("image/png", picture),
    )
    style, script = (_source(environment, f"report.{kind}") for kind in ("css", "js"))
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    return environment.get_template("report.html.j2").render(
        {**values, **_derived(data)},
        version=version,
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def _derived(data: ReportData) -> dict[str, Any]:
    """Values of the template that follow from the data."""
    histogram = Markup(draw_histogram(data.histogram)) if data.histogram else None
    trend = None
    if data.trend and data.drift:
        limit = max(item.limit for item in data.drift)
        trend = draw_trend(data.trend, limit, data.head.finished_at)
    curves = _curves(data.labels.groups) if data.labels else []
    failed = _failed(data.head)
    most = max([_LEAST_SCALE, *(float(np.nanmax(item.ratio)) for item in data.drift)])
    values = {
        "verdict": _verdict(data),
        "drift_verdict": _drift_verdict(data),
        "failed": failed,
        "failures_left": data.head.rows - data.head.scored - len(data.failures),
        "histogram_chart": histogram,
        "trend_chart": Markup(trend) if trend else None,
        "curves": curves,
        "drift": [(item, _drift_picture(item.ratio, most)) for item in data.drift],
        "drift_left": data.drift_groups - len(data.drift),
        "drift_scale": most,
        "scale": _drift_picture(np.geomspace(1, most, 128)[None], most),
        "gallery_groups": sorted({item.group for item in data.anomalies}),
        "has_heat": any(item.heat for item in data.anomalies),
        "regions_shown": REGIONS_SHOWN,
        "settings": words.settings_yaml(data.settings),
    }
    return {**values, "sections": _sections(data, bool(failed), bool(trend))}


def _sections(data: ReportData, failed: bool, trend: bool) -> list[tuple[str, str]]:
    there = [
        ("summary", "Summary", True),
        ("scores", "Scores", True),
        ("anomalies", "Images", True),
        ("groups", "Groups", len(data.groups) > 1),
        ("labels", "Labels", data.labels is not None),
        ("drift", "Drift", bool(data.drift) or trend),
        ("failures", "Without a score", failed),
        ("fit", "Fit", bool(data.quality)),
        ("settings", "Settings", True),
    ]
    return [(name, title) for name, title, shown in there if shown]


def _verdict(data: ReportData) -> str:
    """Summary of the run in a few sentences."""
    head, alarms = data.head, data.alarms
    parts = []
    if head.finished_at is None:
        parts.append(
            f"The run is not finished ({head.rows:,} of {words.counted(head.images, 'image')}). "
            "'padim-dist score' resumes it."
        )
    if alarms is None:
        parts.append(
            "No image is flagged: the model has no calibration. Set fit.sample above 0, then run "
            "'padim-dist fit' and 'padim-dist score'."
        )
    else:
        of = f"{alarms.flagged:,} of {words.counted(alarms.judged, 'image')}"
        few = words.few(alarms.expected)
        expected = "" if alarms.rule.needs_all else f" (expected false alarms: {few})"
        parts.append(f"{of} {'is' if alarms.flagged == 1 else 'are'} flagged{expected}.")
    failed = head.rows - head.scored
    if failed:
        parts.append(
            f"{words.counted(failed, 'file')} {'has' if failed == 1 else 'have'} no score."
        )
    if any(item.z > item.limit for item in data.drift):
        parts.append("The images differ significantly from those of the fit (drift).")
    return " ".join(parts)


def _drift_verdict(data: ReportData) -> tuple[str, str]:
    if not data.drift:
        return "unknown", "needs a calibrated model and a finished run"
    drifted = sum(item.z > item.limit for item in data.drift)
    worst = max(data.drift, key=lambda item: item.z)
    most = f"{words.few(worst.z)} standard deviations; limit {worst.limit:.1f}"
    if not drifted:
        return "no significant change", most
    if data.drift_groups == 1:
        return "significant change", most
    shown = "at least " if drifted == len(data.drift) < data.drift_groups else ""
    return (
        "significant change",
        f"{shown}{drifted:,} of {data.drift_groups:,} groups; the largest in {worst.group}",
    )


def _failed(head: ReportHead) -> list[str]:
    """Counts of rows without a score, by status."""
    items = sorted(head.statuses.items(), key=lambda item: -item[1])
    return [f"{n:,} {words.words(status)}" for status, n in items if status != "scored" and n]


def _curves(groups: Sequence[LabelledGroup]) -> list[tuple[str, Markup]]:
    several = f", {len(groups):,} groups" if len(groups) > 1 else ""
    drawn = []
    if any(len(group.roc) for group in groups):
        drawn.append((f"ROC of images{several}", Markup(draw_roc(groups))))
    if any(len(group.pixel_roc) for group in groups):
        drawn.append((f"ROC of pixels{several}", Markup(draw_pixel_roc(groups))))
    if any(len(group.pro_curve) for group in groups):
        drawn.append((f"Per-region overlap (PRO){several}", Markup(draw_pro(groups))))
    return drawn


def _drift_picture(ratio: npt.NDArray[np.floating], most: float) -> bytes:
    """Drift map as PNG; colours are logarithmic from the expected value upwards."""
    shares = np.log(np.maximum(np.nan_to_num(ratio, nan=1.0), 1.0)) / np.log(most)
    sink = io.BytesIO()
    heat_layer(shares).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(text: str) -> str:
    """Source of an inline block in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
