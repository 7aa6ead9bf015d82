"""The report as a file: well-formed, loads no other file, and shows data only as text."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from padim_dist.core.alarms import Alarms
from padim_dist.pages.cards import Event, Still
from padim_dist.pages.heat import HeatScale
from padim_dist.pages.html import _drift_picture, render
from tests.pages.samples import (
    BREAKOUT,
    HOSTILE,
    anomaly,
    head,
    hostile,
    many_groups,
    sample,
)

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text inside them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> str:
        return "".join(text for name, text in self.texts if name == tag)

    @property
    def text(self) -> str:
        hidden = ("script", "style")
        joined = " ".join(text for name, text in self.texts if name not in hidden)
        return " ".join(joined.split())


def page(data) -> Page:
    return Page(render(data, "0.0"))


@cache
def page_of(case: str) -> Page:
    """Return the page of one of `CASES`; charts take most of a second."""
    return page(CASES[case])


CASES = {
    "whole": sample(),
    "hostile": hostile(),
    "many groups": many_groups(),
    "nothing scored": sample(
        statuses={"unreadable": 5},
        anomalies=[],
        histogram=None,
        labels=None,
        drift=[],
        trend=[],
        quality=[],
        alarms=None,
        groups=[],
    ),
    "not calibrated": sample(
        alarms=None,
        drift=[],
        trend=[],
        quality=[],
        anomalies=[
            anomaly(i, p_value=None, p_extrapolated=None, flagged=None, regions=[])
            for i in range(3)
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_ids_are_unique_and_references_exist(case):
    found = page_of(case)
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in found.elements:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name, ids[0]) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        if "clip-path" in attributes:
            assert re.fullmatch(r"url\(#(.*)\)", attributes["clip-path"])[1] in ids


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_loaded_from_elsewhere(case):
    found = page_of(case)
    for tag, attributes in found.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "@import" not in found.inside("style")
    assert "url(" not in found.inside("style")


def test_policy_names_the_two_inline_blocks():
    found = page_of("whole")
    (policy,) = [
        meta["content"]
        for meta in found.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    for kind in ("style", "script"):
        digest = hashlib.sha256(found.inside(kind).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_hostile_names_are_text():
    found = page_of("hostile")
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert all(image["src"].startswith("data:") for image in found.all("img"))
    for name in (HOSTILE, BREAKOUT):
        assert name in found.text
    cards = [a for a in found.all("li") if "data-name" in a]
    assert cards[0]["data-name"] == f"/data/{HOSTILE} ({BREAKOUT})"
    assert cards[0]["data-group"] == BREAKOUT


def test_landmarks_and_labels():
    found = page_of("whole")
    assert [element["lang"] for element in found.all("html")] == ["en"]
    for landmark in ("header", "nav", "main", "footer", "title", "h1"):
        assert len(found.all(landmark)) == 1
    assert all("aria-labelledby" in section for section in found.all("section"))
    assert len(found.all("caption")) == len(found.all("table"))
    assert all("scope" in th for th in found.all("th"))
    assert all(button["type"] == "button" for button in found.all("button"))
    # Every control is inside a label.
    controls = len(found.all("input")) + len(found.all("select"))
    assert len(found.all("label")) == controls


def test_verdict_of_a_calibrated_run():
    text = page_of("whole").text
    assert "3 of 115 images are flagged (expected false alarms: 0.12)." in text
    assert "5 files have no score" in text
    assert "The images differ significantly from those of the fit" in text
    assert "3 unreadable, 2 too large" in text


def test_without_calibration_it_says_how_to_get_one():
    found = page_of("not calibrated")
    assert "Set fit.sample above 0, then run 'padim-dist fit'" in found.text
    assert "sorted by score, since the model has no calibration" in found.text
    choices = {a.get("value") for a in found.all("option")}
    assert "all" in choices
    assert not choices & {"p", "near", "flagged", "missed", "false"}
    assert not [a for a in found.all("li") if a.get("id") == "divider"]


def test_it_says_when_the_metrics_of_pixels_were_computed():
    told = "Metrics of pixels (pixel AUROC, PRO) are those of the last padim-dist evaluate"
    assert told in page_of("whole").text
    data = sample()
    assert data.labels is not None
    groups = [replace(group, pixel_auroc=None, pro=None) for group in data.labels.groups]
    without = page(replace(data, labels=replace(data.labels, groups=groups)))
    assert "Pixel AUROC" in without.text
    assert told not in without.text


def test_the_title_names_the_night_or_the_run_and_its_archive():
    assert "<title>Run 0123456789abcdef of photos - padim-dist</title>" in render(sample(), "0.0")
    found = page(sample(title="Night 2, 26 November, photos"))
    assert found.inside("h1") == "Night 2, 26 November, photos"
    assert "Run 0123456789abcdef" in found.text
    named = head(asked={"archive": {"url": "s3://host/photos", "name": "line 4"}})
    assert "Run 0123456789abcdef of line 4" in page(sample(head=named)).inside("h1")


def test_near_misses_follow_the_threshold():
    items = [anomaly(i, flagged=i < 3) for i in range(60)]
    found = page(sample(anomalies=items))
    histogram = sample().histogram
    assert histogram
    own = page(sample(histogram=replace(histogram, threshold=None))).text
    assert "Threshold of the group. The images below are not flagged." in own
    cards = [
        a for a in found.all("li") if a.get("class", "").split()[:1] in (["card"], ["divider"])
    ]
    assert [a["class"] for a in cards[:4]] == ["card flagged"] * 3 + ["divider"]
    near = [a["data-near"] for a in cards if "data-near" in a]
    assert near == ["0"] * 3 + ["1"] * 24 + ["0"] * 33
    assert "Threshold: p ≤ 0.001. The images below are not flagged." in found.text


def test_cards_have_the_path_in_the_archive_and_what_the_model_does_not_see():
    items = [anomaly(0), replace(anomaly(1), map_box=(0, 0, 64, 96))]
    found = page(sample(anomalies=items, suspects=[]))
    assert "cam-0/img0.jpg" in found.inside("span")
    unseen = [a["d"] for a in found.all("path") if a.get("class") == "unseen"]
    assert unseen == ["M0 0H96V64H0ZM6 4V60H90V4Z"]


def test_figures_of_the_curves():
    text = page_of("whole").text
    assert "ROC of images: AUROC 0.9800. Dot: 75 % of the anomalous and 4 % of the good" in text
    assert "Per-region overlap: PRO 0.9100" in text


def test_one_threshold_is_in_the_legend():
    one = {"cam-0": HeatScale(5.0, 25.0, 50.0)}
    text = page(sample(scales=one)).text
    assert "usual 5 threshold 25 50" in text
    assert "or, where that is not known, a high score" in page_of("whole").text


def test_suspects_and_what_is_known_of_an_image():
    text = page_of("whole").text
    assert "The most anomalous: 2 of 5; padim-dist suspects lists all." in text
    assert "score 49.80 p 0.0005" in text
    assert text.index("in the model") < text.index("dropped")
    assert "ok, by ann, 2026-11-26 08:00 UTC: wiped" in text
    assert "fine 20 %, middle 30 %, coarse 50 % of the score" in text
    none = page(sample(suspects=[], weeks=[], labels=None))
    ids = {a.get("id") for a in none.all("section")}
    assert not ids & {"suspects", "weeks", "labels"}


def test_events_are_strips_of_their_film():
    stills = [Still(12.0, b"a"), Still(12.48, b"b")]
    event = Event("a" * 16, "cam", f"cam/{HOSTILE}.mp4", 12.0, 13.0, 12.48, 9.0, 0.01, 11, stills)
    found = page(sample(events=[event, replace(event, stills=[])], events_left=3))
    assert '2 of 5; padim-dist query "FROM events" lists all.' in found.text
    assert "0:12.00 – 0:13.00" in found.text
    assert "11 frames highest at 0:12.48: score 9.00, p 0.01" in found.text
    assert "the film cannot be read any more" in found.text
    assert len(found.all("figure")) == len(page(sample()).all("figure")) + 2
    assert "events" not in {a.get("id") for a in page(sample()).all("section")}


def test_half_a_run_says_so():
    data = sample(head=head(finished_at=None), shards_done=1, statuses={"scored": 30})
    text = page(data).text
    assert "The run is not finished (30 of 120 images)" in text
    assert "finished: 1 of 4 shards, 30 of 120 images" in text


def test_omitted_images_are_counted():
    text = page_of("many groups").text
    assert "200 of 3,000 groups; all are in the score table" in text
    assert "The largest: 1 of 3,000 groups; all are in drift.zarr" in text
    assert "1 of 5 are shown; all are in the score table" in text


def test_everything_flagged_and_nothing_flagged():
    rows = [anomaly(i, flagged=True) for i in range(4)]
    alarms = sample().alarms
    assert alarms
    text = page(sample(anomalies=rows, alarms=replace(alarms, flagged=115))).text
    assert "115 of 115 images are flagged" in text
    text = page(sample(anomalies=rows[:1], alarms=replace(alarms, flagged=0))).text
    assert "0 of 115 images are flagged" in text


def test_false_discovery_rate_is_worded_as_such():
    alarms = replace(sample().alarms, rule=Alarms("fdr", 0.05, 0.05), expected=None)
    text = page(sample(alarms=alarms)).text
    assert "at most 5 % of the flagged images may be false alarms" in text
    assert "(expected false alarms:" not in text


def test_settings_hold_no_secret():
    text = render(sample(), "0.0")
    assert "s3://…@host/photos" in text
    assert "secret" not in text


def test_drift_is_grey_where_nothing_is_judged():
    picture = Image.open(io.BytesIO(_drift_picture(np.array([[1.0, 9.0, np.nan]]), 9.0)))
    usual, drifted, outside = (picture.getpixel((x, 0)) for x in range(3))
    assert usual[3] == 0
    assert drifted[3] > 0
    assert outside[3] > 0
    assert outside[0] == outside[1] == outside[2]
