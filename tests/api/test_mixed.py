"""Groups that mix sizes, bits or colour, from the files to the warnings of `doctor` and `fit`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.store.parts.receipt import KeptPart
from padim_dist.store.records import find_receipt
from tests.conftest import tiny_config

RNG = np.random.default_rng(3)


def save(path, size=(40, 50), bits=8, grey=False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    most, kind = 2**bits, np.uint16 if bits == 16 else np.uint8
    pixels = RNG.integers(0, most, size if grey else (*size, 3), dtype=kind)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def config(tmp_path_factory, scheduler) -> padim.Config:
    """Of each group the last image is another one than the others; of one none is."""
    folder = tmp_path_factory.mktemp("mixed")
    ways = {
        "alike": ({}, {}),
        "sizes": ({}, {"size": (40, 80)}),
        "bits": ({"grey": True}, {"grey": True, "bits": 16}),
        "colours": ({}, {"grey": True}),
    }
    for group, (first, last) in ways.items():
        for number in range(4):
            options = last if number == 3 else first
            save(folder / f"archive/{group}/good/{number}.png", **options)
    grouped = {"layout": "folder", "group": "^(?P<group>[^/]+)/"}
    return tiny_config(folder, folder / "archive", scheduler, archive=grouped)


def assert_named(text: str) -> None:
    assert "different kinds of images in 3 groups" in text
    assert "'sizes' sizes 50x40 (3), 80x40 (1)" in text
    assert "'bits' 8 bits (3), 16 bits (1)" in text
    assert "'colours' colour (3), grey (1)" in text
    assert "'alike'" not in text


def test_fit_and_doctor_warn_of_groups_that_mix_kinds(config):
    (finding,) = [one for one in padim.doctor(config).findings if one.check == "kinds"]
    assert finding.verdict == "warning"
    assert_named(finding.found)
    fitted = padim.fit(config)
    (warning,) = [text for text in fitted.warnings if "different kinds" in text]
    assert_named(warning)
    again = padim.fit(config)  # from receipts
    assert warning in again.warnings


def test_score_rows_have_bits_and_colour(config):
    padim.fit(config)
    padim.score(config)
    with padim.connect(config) as connection:
        rows = connection.sql(
            'SELECT "group", width, bits, grey, count(*) FROM scores '
            "WHERE \"group\" IN ('bits', 'colours') GROUP BY ALL ORDER BY \"group\", bits, grey"
        ).fetchall()
    assert rows == [
        ("bits", 50, 8, True, 3),
        ("bits", 50, 16, True, 1),
        ("colours", 50, 8, False, 3),
        ("colours", 50, 8, True, 1),
    ]


def test_receipts_of_earlier_versions_have_no_forms(config):
    """A part of version 0.5 is read, and says nothing of its images."""
    padim.fit(config)
    workspace = workspace_of(config)
    path = next(Path(config.workspace).glob("moments/*/*/*.json"))
    values = json.loads(path.read_text())
    assert values.pop("forms")
    path.write_text(json.dumps(values))
    place = str(path.relative_to(config.workspace))
    receipt = find_receipt(workspace.folder, place, KeptPart)
    assert receipt is not None
    assert receipt.forms == ()
