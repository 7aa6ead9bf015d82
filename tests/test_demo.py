"""The demo, smaller than what `make demo` runs, on its own workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import padim_dist as padim
from padim_dist.config import load_config
from padim_dist.synthetic.archive import make_archive
from padim_dist.synthetic.belt import SIZE
from padim_dist.synthetic.film import FILM, REACHES, make_films
from padim_dist.synthetic.parts import DEFECTS, GROUPS, draw_part
from tests.archive.films import plain_frames


@pytest.mark.slow
def test_demo_from_nothing(tmp_path, monkeypatch):
    """All of it: an archive, a local cluster, metrics, one picture; and a film."""
    make_archive(tmp_path / "archive", normal=12, good=3, defects=1, moving=["board"])
    (tmp_path / "archive/complete").touch()
    result = padim.demo(str(tmp_path))
    assert result.groups.keys() == set(GROUPS)
    assert result.statuses == {"scored": 16, "unreadable": 3, "too_large": 1}
    assert all(figures.pixel_auroc > 0.8 for figures in result.groups.values())
    picture = Image.open(result.picture)
    assert picture.size[0] > 1000
    assert np.asarray(picture).std() > 20
    assert "</html>" in Path(result.report).read_text()
    board, flange = result.positions
    assert (board.group, board.not_aligned, flange.group, flange.not_aligned) == (
        *("board", 0),
        *("flange", 0),
    )
    assert board.largest_shift > 6 > flange.largest_shift
    assert board.largest_turn > 4 > flange.largest_turn
    (event,) = result.events
    assert (event.starts, event.ends) == pytest.approx(REACHES, abs=0.21)
    assert "Events in films" in Path(result.film_report).read_text()
    assert not result.notes
    # Its configuration file can be used to continue.
    config = load_config(result.configuration)
    assert padim.score(config).scored == 0
    assert yaml.safe_load(Path(result.configuration).read_text())["model"]["weights"] == "random"
    assert json.loads(next((tmp_path / "audit/runs").rglob("metrics.json")).read_text())["groups"]
    # Without PyAV, on what is there.
    monkeypatch.setattr("padim_dist.api.demo.can_film", lambda: False)
    again = padim.demo(str(tmp_path))
    assert (again.statuses, again.events, again.film_report) == (result.statuses, [], None)
    assert "padim-dist[video]" in again.notes[0]


def test_parts_are_drawn_alike_from_a_seed():
    for group in GROUPS:
        for defect in (None, *DEFECTS):
            picture, mask = draw_part(group, defect, np.random.default_rng(3))
            again, _ = draw_part(group, defect, np.random.default_rng(3))
            assert picture.size == (SIZE, SIZE)
            assert np.array_equal(picture, again)
            area = (np.asarray(mask) > 0).mean()
            assert area == 0 if defect is None else 0.0005 < area < 0.1


def test_moving_parts_have_their_defects_where_the_mask_says():
    """A missing chip shows the board: its mask is as green, wherever the board lies."""
    for seed in range(4):
        picture, mask = draw_part("board", "missing", np.random.default_rng(seed), moves=True)
        inside = np.asarray(picture, float)[np.asarray(mask) > 0]
        red, green, blue = np.moveaxis(inside, -1, 0)
        assert (green > 1.2 * np.maximum(red, blue)).mean() > 0.98


def test_an_arm_reaches_into_the_film_when_it_says_so(tmp_path):
    make_films(tmp_path)
    normal, odd = (
        np.stack([*plain_frames(tmp_path / name).values()])[:, :60, 150:210].astype(float)
        for name in ("packing/train/monday.mp4", FILM)
    )
    changed = np.abs(odd - normal).mean((1, 2, 3)) > 8
    seconds = np.flatnonzero(changed) / 10
    assert (seconds.min(), seconds.max()) == REACHES
    assert changed.sum() == len(range(50, 75))
