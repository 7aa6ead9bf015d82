"""The report of a run as one HTML file that needs nothing but itself.

The content security policy allows pictures from data URIs and the two inline blocks whose
digests it names, so neither a name of a file nor anything else in the data can run or load
something, even if escaping failed.
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
from padim_dist.pages.data import Head, LabelledGroup, ReportData
from padim_dist.pages.heat import heat_layer

REGIONS_SHOWN = 20
"""Of one image."""
_LEAST_SCALE = 8.0
"""Times what is expected: the hottest colour of drift maps is never below it."""


def render(data: ReportData, version: str) -> str:
    """Write the page.

    Parameters
    ----------
    data : ReportData
        What it says; any text in it is shown as text.
    version : str
        Of this package.
    """
    environment = Environment(
        loader=PackageLoader("padim_dist.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(
        count=words.count,
        few=words.few,
        score=words.score,
        p=words.probability,
        share=words.share,
        interval=words.interval,
        pair=words.pair,
        percent_pair=words.percent_pair,
        minute=words.minute,
        words=words.words,
        full_name=words.full_name,
        described=words.described,
        rule=words.rule,
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
    """What the template shows and the data does not spell out."""
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
    """The page in one or two sentences."""
    head, alarms = data.head, data.alarms
    parts = []
    if head.finished_at is None:
        parts.append(
            f"The run is not finished: {head.rows:,} of {head.images:,} images are here. "
            "'padim-dist score' goes on with it."
        )
    if alarms is None:
        parts.append(
            f"{head.scored:,} images have a score. None can be called anomalous without "
            "p-values: the model has no calibration. Fit with fit.sample above 0."
        )
    else:
        are = "is" if alarms.flagged == 1 else "are"
        parts.append(f"{alarms.flagged:,} of {alarms.judged:,} images {are} flagged.")
        if alarms.rule != "fdr":
            parts.append(f"If all were normal, about {words.few(alarms.expected)} would be.")
    failed = head.rows - head.scored
    if failed:
        parts.append(f"{failed:,} {'file has' if failed == 1 else 'files have'} no score.")
    if any(item.z > item.limit for item in data.drift):
        parts.append("The scene differs from that of the fit by more than chance.")
    return " ".join(parts)


def _drift_verdict(data: ReportData) -> tuple[str, str]:
    if not data.drift:
        return "not known", "needs a calibration and a finished run"
    drifted = sum(item.z > item.limit for item in data.drift)
    worst = max(data.drift, key=lambda item: item.z)
    most = f"{words.few(worst.z)} standard deviations; chance stays below {worst.limit:.1f}"
    if not drifted:
        return "within chance", most
    if data.drift_groups == 1:
        return "beyond chance", most
    shown = "at least " if drifted == len(data.drift) < data.drift_groups else ""
    return (
        "beyond chance",
        f"{shown}{drifted:,} of {data.drift_groups:,} groups, most in {worst.group}",
    )


def _failed(head: Head) -> list[str]:
    """Rows without a score by status, in words."""
    items = sorted(head.statuses.items(), key=lambda item: -item[1])
    return [f"{n:,} {words.words(status)}" for status, n in items if status != "scored" and n]


def _curves(groups: Sequence[LabelledGroup]) -> list[tuple[str, Markup]]:
    several = f", {len(groups):,} groups" if len(groups) > 1 else ""
    drawn = []
    if any(len(group.roc) for group in groups):
        drawn.append((f"ROC over images{several}", Markup(draw_roc(groups))))
    if any(len(group.pixel_roc) for group in groups):
        drawn.append((f"ROC over pixels{several}", Markup(draw_pixel_roc(groups))))
    if any(len(group.pro_curve) for group in groups):
        drawn.append((f"Per-region overlap (PRO){several}", Markup(draw_pro(groups))))
    return drawn


def _drift_picture(ratio: npt.NDArray[np.floating], most: float) -> bytes:
    """Drift over the patch grid in colours: logarithmic, from what is expected on."""
    shares = np.log(np.maximum(np.nan_to_num(ratio, nan=1.0), 1.0)) / np.log(most)
    sink = io.BytesIO()
    heat_layer(shares).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(text: str) -> str:
    """As a content security policy names an inline block."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
