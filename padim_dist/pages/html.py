"""The report of a run as one HTML file that works offline.

The content security policy allows pictures from data URIs, and the inline style and script by
their digests. So no file name or other data can run or load anything, even if escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from inspect import getmembers, isfunction
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from padim_dist.escaping import visible_lines
from padim_dist.pages import words
from padim_dist.pages.charts import draw_curves, draw_trend, draw_weeks
from padim_dist.pages.data import LabelledGroup, ReportData
from padim_dist.pages.gallery import gallery_texts
from padim_dist.pages.heat import heat_layer
from padim_dist.pages.histogram import draw_histogram

REGIONS_SHOWN = 20
"""Most regions shown of one image."""
_STYLES = ("page.css", "gallery.css", "viewer.css", "small.css")
_SCRIPTS = ("page.js", "marks.js", "viewer.js", "gallery.js")
"""Parts of the inline style and script, in order; scripts use what is before them."""
_NARROW = 3.7
"""Inches of a chart on a phone."""
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
    loader = PackageLoader("padim_dist.pages", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible_lines(value, "") if type(value) is str else value,
        trim_blocks=True,
    )
    environment.filters.update(getmembers(words, isfunction), data_uri=_data_uri)
    style, script = (
        "\n".join(loader.get_source(environment, name)[0] for name in names)
        for names in (_STYLES, _SCRIPTS)
    )
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    return environment.get_template("report.html.j2").render(
        vars(data) | _derived(data),
        version=version,
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def _derived(data: ReportData) -> dict[str, Any]:
    """Values of the template that follow from the data."""
    trend = None
    if data.trend and data.drift:
        limit = max(item.limit for item in data.drift)
        trend = Markup(draw_trend(data.trend, limit, data.head.finished_at))
    failed = _failed(data)
    most = max([_LEAST_SCALE, *(float(np.nanmax(item.ratio)) for item in data.drift)])
    return {
        "rows": data.rows,
        "scored": data.scored,
        "verdict": _verdict(data),
        "drift_verdict": _drift_verdict(data),
        "failed": failed,
        "failures_left": data.rows - data.scored - len(data.failures),
        "heading_text": data.title or f"Run {data.head.run_id} of {data.archive}",
        "gallery": gallery_texts(data),
        "reviews_file": f"reviews-{data.head.run_id[:8]}.json",
        **_histograms(data),
        "weeks_chart": Markup(draw_weeks(data.weeks)) if data.weeks else None,
        "trend_chart": trend,
        "curves": _curves(data.labels.groups) if data.labels else [],
        "drift": [(item, _drift_picture(item.ratio, most)) for item in data.drift],
        "drift_left": data.drift_groups - len(data.drift),
        "drift_scale": most,
        "scale": _drift_picture(np.geomspace(1, most, 128)[None], most),
        "regions_shown": REGIONS_SHOWN,
        "settings": words.settings_yaml(data.head.asked),
        "sections": _sections(data, bool(failed), bool(trend)),
    }


def _histograms(data: ReportData) -> dict[str, Markup | None]:
    """The histogram for a wide screen and for a phone."""
    found = data.histogram
    return {
        "histogram_chart": Markup(draw_histogram(found)) if found else None,
        "histogram_narrow": Markup(draw_histogram(found, "small", _NARROW)) if found else None,
    }


def _sections(data: ReportData, failed: bool, trend: bool) -> list[tuple[str, str]]:
    there = [
        ("summary", "Summary", True),
        ("scores", "Scores", True),
        ("anomalies", "Images", True),
        ("events", "Events", bool(data.events)),
        ("suspects", "Suspects", bool(data.suspects)),
        ("groups", "Groups", len(data.groups) > 1),
        ("labels", "Labels", data.labels is not None),
        ("weeks", "Weeks", bool(data.weeks)),
        ("drift", "Drift", bool(data.drift) or trend),
        ("failures", "Without a score", failed),
        ("fit", "Fit", bool(data.quality)),
        ("settings", "Settings", True),
    ]
    return [(name, title) for name, title, shown in there if shown]


def _verdict(data: ReportData) -> str:
    """Summary of the run in a few sentences."""
    alarms, parts = data.alarms, []
    if not data.head.is_finished:
        images = words.counted(data.head.images, "image")
        parts.append(
            f"The run is not finished ({data.rows:,} of {images}). 'padim-dist score' resumes it."
        )
    if alarms is None:
        parts.append(
            "No image is flagged: the model has no calibration. Set fit.sample above 0, then run "
            "'padim-dist fit' and 'padim-dist score'."
        )
    else:
        of = f"{alarms.flagged:,} of {words.counted(alarms.judged, 'image')}"
        few = "" if alarms.expected is None else words.few(alarms.expected)
        expected = f" (expected false alarms: {few})" if few else ""
        parts.append(f"{of} {'is' if alarms.flagged == 1 else 'are'} flagged{expected}.")
    if failed := data.rows - data.scored:
        has = "has" if failed == 1 else "have"
        parts.append(f"{words.counted(failed, 'file')} {has} no score.")
    if any(item.z > item.limit for item in data.drift):
        parts.append("The images differ significantly from those of the fit (drift).")
    return " ".join(parts)


def _drift_verdict(data: ReportData) -> tuple[str, str]:
    if not data.drift:
        reasons = sorted(set(data.head.drift_unknown.values()))
        return "unknown", "; ".join(reasons) or "needs a calibrated model and a finished run"
    drifted = sum(item.z > item.limit for item in data.drift)
    worst = max(data.drift, key=lambda item: item.z)
    most = f"{words.few(worst.z)} standard deviations; limit {worst.limit:.1f}"
    if not drifted:
        return "no significant change", most
    if data.drift_groups == 1:
        return "significant change", most
    shown = "at least " if drifted == len(data.drift) < data.drift_groups else ""
    counts = f"{shown}{drifted:,} of {data.drift_groups:,} groups"
    return "significant change", f"{counts}; the largest in {worst.group}"


def _failed(data: ReportData) -> list[str]:
    """Counts of rows without a score, by status."""
    items = sorted(data.statuses.items(), key=lambda item: -item[1])
    return [f"{n:,} {name.replace('_', ' ')}" for name, n in items if name != "scored" and n]


def _curves(groups: Sequence[LabelledGroup]) -> list[tuple[str, Markup]]:
    """Charts of the curves, with captions that give the areas and the operating point."""
    several = f", {len(groups):,} groups" if len(groups) > 1 else ""
    mean = "mean " if several else ""
    operating = [group.flags.operating for group in groups if group.flags]
    flags = [point for point in operating if point]
    points = "" if not flags else f". Dot: {words.rates(flags[0])}"
    if len(flags) > 1:
        points = ". Dots: the flags of each group"
    kinds = [
        ("ROC of images", "roc", "AUROC", [(g.roc, g.image_auroc) for g in groups], points),
        ("ROC of pixels", "pixels", "AUROC", [(g.pixel_roc, g.pixel_auroc) for g in groups], ""),
        ("Per-region overlap", "pro", "PRO", [(g.pro_curve, g.pro) for g in groups], ""),
    ]
    charts = []
    for title, name, area, figures, note in kinds:
        if not any(len(curve) for curve, _ in figures):
            continue
        areas = [value for _, value in figures if value is not None]
        found = f": {mean}{area} {words.metric(float(np.mean(areas)))}" if areas else ""
        chart = draw_curves(name, [curve for curve, _ in figures], flags if note else ())
        charts.append((f"{title}{several}{found}{note}", Markup(chart)))
    return charts


def _drift_picture(ratio: npt.NDArray[np.floating], most: float) -> bytes:
    """Drift map as PNG; colours are logarithmic from the expected value upwards, NaN is grey."""
    shares = np.log(np.maximum(ratio, 1.0)) / np.log(most)
    sink = io.BytesIO()
    heat_layer(shares).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _digest(text: str) -> str:
    """Source of an inline block in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
