"""The whole picture by default; and what a crop hides is said and shown."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.settings.places import model_settings
from padim_dist.errors import RequestError
from tests.conftest import tiny_config

UNSEEN = 1 - 64 * 64 / (72 * 72)


def test_no_crop_is_the_default_and_a_crop_of_all_is_none(tmp_path):
    default = tiny_config(tmp_path, tmp_path, None, model={"crop": None})
    assert default.model.geometry.unseen == 0
    assert default.model.crop == default.model.resize == (72, 72)
    written = tiny_config(tmp_path, tmp_path, None, model={"crop": 72})
    assert model_settings(written) == model_settings(default)
    paper = padim.load_config("configs/mvtec_bottle.yaml").model.geometry
    assert (paper.resize, paper.crop) == ((256, 256), (224, 224))


def test_doctor_says_what_a_crop_hides(tiny_audit):
    (found,) = [one for one in padim.doctor(tiny_audit).findings if one.check == "crop"]
    assert found.verdict == "warning"
    assert f"does not see {100 * UNSEEN:.0f} % of every image" in found.found
    whole = tiny_audit.model_copy(
        update={"model": tiny_audit.model.model_copy(update={"crop": (72, 72)})}
    )
    assert not [one for one in padim.doctor(whole).findings if one.check == "crop"]


def test_pictures_show_what_a_crop_hides(tiny_audit, tmp_path):
    (row,) = (
        padim.open_scores(tiny_audit.workspace)
        .filter("label = 'spot' AND height = 80")
        .limit(1)
        .to_arrow_table()
        .to_pylist()
    )
    padim.show(tiny_audit, image_id=row["image_id"], out=str(tmp_path / "x.png"))
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("L")).astype(float)
    width = (drawn.shape[1] - 8) // 2
    original, heated = drawn[:, :width], drawn[:, width + 8 :]
    edge = 4 / 72  # on each side
    rows, columns = int(edge * drawn.shape[0]) - 2, int(edge * width) - 2
    assert np.allclose(heated[:rows], 0.353 * original[:rows] + 0.647 * 30, atol=8)
    assert np.allclose(heated[:, :columns], 0.353 * original[:, :columns] + 0.647 * 30, atol=8)
    padim.report(tiny_audit, out=str(tmp_path / "x.html"))
    page = (tmp_path / "x.html").read_text()
    assert f"does not see {100 * UNSEEN:.0f} % of every image" in page
    assert 'class="unseen"' in page


def test_maps_of_the_original(tiny_audit):
    maps = padim.open_heatmaps(tiny_audit.workspace)
    heights = maps.image_height.values.copy()
    heights[0] = 60
    with pytest.raises(RequestError, match=r"one size; found 60x96, 80x96\. Choose rows"):
        maps.assign_coords(image_height=("row", heights)).padim.full(original=True)
    ours = maps.isel(row=slice(1, 5))
    small, whole = ours.padim.full(), ours.padim.full(original=True)
    assert whole.shape == (ours.sizes["row"], 80, 96)
    assert list(whole.coords["image_id"].values) == list(ours.image_id.values)
    share = np.isnan(whole[0]).mean().item()
    assert share == pytest.approx(UNSEEN, abs=0.03)
    assert np.isnan(whole[:, 3, :]).all()
    assert not np.isnan(whole[:, 5:75, 6:90]).any()
    for place in range(ours.sizes["row"]):
        y, x = np.unravel_index(small[place].values.argmax(), small.shape[1:])
        rows, columns = ours.isel(row=[place]).padim.to_original(y, x)
        at = whole[place].values[rows[0], columns[0]]
        assert at >= np.nanmax(whole[place].values) - 0.05 * float(small[place].max())
