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
from padim_dist.synthetic.parts import DEFECTS, GROUPS, SIZE, draw_part


@pytest.mark.slow
def test_demo_from_nothing(tmp_path):
    """All of it: an archive, a local cluster, metrics, one picture."""
    make_archive(tmp_path / "archive", normal=12, good=3, defects=1)
    (tmp_path / "archive/complete").touch()
    result = padim.demo(str(tmp_path))
    assert result.groups.keys() == set(GROUPS)
    assert result.statuses == {"scored": 16, "unreadable": 3, "too_large": 1}
    assert all(figures.pixel_auroc > 0.8 for figures in result.groups.values())
    picture = Image.open(result.picture)
    assert picture.size[0] > 1000
    assert np.asarray(picture).std() > 20
    assert "</html>" in Path(result.report).read_text()
    # Its configuration file can be used to continue.
    config = load_config(result.configuration)
    assert padim.score(config).scored == 0
    assert yaml.safe_load(Path(result.configuration).read_text())["model"]["weights"] == "random"
    assert json.loads(next((tmp_path / "audit/runs").rglob("metrics.json")).read_text())["groups"]


def test_parts_are_drawn_alike_from_a_seed():
    for group in GROUPS:
        for defect in (None, *DEFECTS):
            picture, mask = draw_part(group, defect, np.random.default_rng(3))
            again, _ = draw_part(group, defect, np.random.default_rng(3))
            assert picture.size == (SIZE, SIZE)
            assert np.array_equal(picture, again)
            area = (np.asarray(mask) > 0).mean()
            assert area == 0 if defect is None else 0.0005 < area < 0.1
