"""Figures of a page: no inline styles, colours by class, unique ids."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from padim_dist.pages.charts import draw_curves, draw_trend, draw_weeks
from padim_dist.pages.data import DriftPoint, Histogram, SplitCounts, Threshold, Week
from padim_dist.pages.histogram import draw_histogram


def histogram(**changes: object) -> Histogram:
    values = np.random.default_rng(0).gamma(20, 0.5, 10_000)
    edges = np.linspace(values.min(), values.max(), 61)
    counts, _ = np.histogram(values, edges)
    flagged = np.where(edges[:-1] > 16, counts, 0)
    fields = {"of_p_values": False, "threshold": Threshold(16.0, 15.0, 18.0), **changes}
    splits = [
        SplitCounts("test", counts, flagged),
        SplitCounts("train", counts // 3, np.zeros_like(counts)),
    ]
    return Histogram(edges, splits, **fields)  # type: ignore[arg-type]


def elements(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())


def test_a_figure_uses_the_colours_of_the_page():
    svg = draw_histogram(histogram())
    assert "#0" not in svg.replace('href="#', "")
    found = elements(svg)
    assert not [e for e in found if "style" in e.attrib or e.tag.endswith("style")]
    classes = {name for e in found for name in e.attrib.get("class", "").split()}
    assert {"fill-plain", "fill-alarm", "fill-band", "stroke-ink", "fill-faint"} <= classes
    assert len(svg) < 50_000


def test_the_threshold_is_written_and_drawn():
    texts = [e.text for e in elements(draw_histogram(histogram())) if e.tag.endswith("text")]
    assert "flagged: score ≥ 16" in texts
    texts = [e.text for e in elements(draw_histogram(histogram(threshold=None)))]
    assert not [text for text in texts if text and "flagged:" in text]


def test_each_split_has_a_panel_with_its_counts():
    texts = [e.text for e in elements(draw_histogram(histogram())) if e.tag.endswith("text")]
    (test, train) = histogram().splits
    assert f"test: 10,000 images, {test.flagged.sum():,} flagged" in texts
    assert f"train: {train.counts.sum():,} images, 0 flagged" in texts
    assert texts.count("images") == 2
    assert texts.count("score") == 1


def test_weeks_without_a_share_have_no_point():
    weeks = [Week("2026-W46", 5, 0.25), Week("2026-W47", 7, None), Week("2026-W48", 9, 0.5)]
    uses = [e for e in elements(draw_weeks(weeks)) if e.tag.endswith("use")]
    points = [e for e in uses if "fill-alarm" in e.attrib.get("class", "")]
    assert len(points) == 2
    assert draw_weeks([Week("2026-W47", 7, None)])


@pytest.mark.parametrize("high", [16.0, np.inf])
def test_an_interval_without_width_or_end_is_not_drawn(high):
    svg = draw_histogram(histogram(threshold=Threshold(16.0, 16.0, high)))
    assert "fill-band" not in svg


def test_the_band_of_the_drift_has_no_lower_end():
    """A drift below the limit is no change, however low it is. The y axis of an SVG points down."""
    points = [DriftPoint(f"2026-11-{day:02d}T00:00:00+00:00", "a", -9.0) for day in (1, 2)]
    found = elements(draw_trend(points, 3.0, None))
    (band,) = [e for e in found if "fill-band" in e.attrib.get("class", "")]
    dots = [float(e.attrib["y"]) for e in found if "fill-alarm" in e.attrib.get("class", "")]
    assert len(dots) == 2
    assert max(map(float, re.findall(r"[ML] \S+ (\S+)", band.attrib["d"]))) > max(dots)


def test_the_same_figure_is_the_same_text():
    assert draw_histogram(histogram()) == draw_histogram(histogram())


def test_figures_of_one_page_share_no_id():
    points = [DriftPoint(f"2026-11-{d:02d}T00:00:00+00:00", "a", float(d)) for d in range(1, 5)]
    curve = draw_curves("roc", [[(0.0, 0.0), (1.0, 1.0)]])
    weeks = draw_weeks([Week("2026-W46", 5, 0.25)])
    wide, narrow = draw_histogram(histogram()), draw_histogram(histogram(), "small", 3.7)
    figures = [wide, narrow, draw_trend(points, 3.0, None), curve, weeks]
    ids = [[e.attrib["id"] for e in elements(svg) if "id" in e.attrib] for svg in figures]
    assert all(ids)
    assert len({name for names in ids for name in names}) == sum(map(len, ids))
