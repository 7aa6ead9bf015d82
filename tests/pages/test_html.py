"""The report as a file: well-formed, loads no other file, and shows data only as text."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from padim_dist.core.alarms import Alarms
from padim_dist.pages.html import render
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
    found = page(CASES[case])
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
    found = page(CASES[case])
    for tag, attributes in found.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "@import" not in found.inside("style")
    assert "url(" not in found.inside("style")


def test_policy_names_the_two_inline_blocks():
    found = page(sample())
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
    found = page(hostile())
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert all(image["src"].startswith("data:") for image in found.all("img"))
    for name in (HOSTILE, BREAKOUT):
        assert name in found.text
    cards = [a for a in found.all("li") if "data-name" in a]
    assert cards[0]["data-name"] == f"/data/{HOSTILE} ({BREAKOUT})"
    assert cards[0]["data-group"] == BREAKOUT


def test_landmarks_and_labels():
    found = page(sample())
    assert found.all("html") == [{"lang": "en"}]
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
    text = page(sample()).text
    assert "3 of 115 images are flagged (expected false alarms: 0.12)." in text
    assert "5 files have no score" in text
    assert "The images differ significantly from those of the fit" in text
    assert "3 unreadable, 2 too large" in text


def test_without_calibration_it_says_how_to_get_one():
    found = page(CASES["not calibrated"])
    assert "Set fit.sample above 0, then run 'padim-dist fit'" in found.text
    assert "sorted by score, since the model has no calibration" in found.text
    (flagged,) = [a for a in found.all("input") if a.get("id") == "flagged"]
    assert "disabled" in flagged
    assert not [a for a in found.all("option") if a.get("value") == "p"]


def test_half_a_run_says_so():
    data = sample(head=head(finished_at=None), shards_done=1, statuses={"scored": 30})
    text = page(data).text
    assert "The run is not finished (30 of 120 images)" in text
    assert "finished: 1 of 4 shards, 30 of 120 images" in text


def test_omitted_images_are_counted():
    text = page(many_groups()).text
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
