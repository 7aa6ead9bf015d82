"""Regions of interest from the configuration to pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.settings.lookup import choose_run, newest_model
from padim_dist.api.settings.places import asked_settings, model_settings
from padim_dist.config import Config
from padim_dist.errors import ConfigError
from padim_dist.storage import Folder
from padim_dist.store.models import find_fit
from padim_dist.store.parts.receipt import KeptPart
from padim_dist.store.records import read_record
from padim_dist.store.workspace import Workspace
from tests.conftest import tiny_config

LEFT = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]


def save_mask(path: Path, right: float = 0.5, size: tuple[int, int] = (80, 96)) -> str:
    """Write a mask that is white in the left part of its width."""
    mask = np.zeros(size, np.uint8)
    mask[:, : round(right * size[1])] = 255
    Image.fromarray(mask).save(path)
    return str(path)


def with_roi(config: Config, roi: object) -> Config:
    tree = config.model_dump(mode="json")
    return padim.Config(**{**tree, "model": {**tree["model"], "roi": roi}})


@dataclass(frozen=True)
class Audit:
    """A run of whole pictures, and one in which only the left half of those of group a counts."""

    whole: Config
    half: Config
    folder: Path
    runs: tuple[str, str]
    fits: tuple[str, str]


@pytest.fixture(scope="module")
def audit(tmp_path_factory, tiny_audit) -> Audit:
    folder = tmp_path_factory.mktemp("roi")
    shutil.copytree(tiny_audit.workspace, folder / "audit")
    tree = {**tiny_audit.model_dump(mode="json"), "workspace": str(folder / "audit")}
    whole = padim.Config(**{**tree, "score": {"alpha": 0.5}})
    half = with_roi(whole, {"a": save_mask(folder / "a.png")})
    workspace = Workspace(Folder(whole.workspace))
    first = newest_model(workspace).fit_id, choose_run(workspace, None).run_id
    second = padim.fit(half).fit_id, padim.score(half).run_id
    return Audit(whole, half, folder, (first[1], second[1]), (first[0], second[0]))


def heatmaps(audit: Audit, run: int):
    return padim.open_heatmaps(f"{audit.whole.workspace}/runs/{audit.runs[run]}").load()


def rows_of(audit: Audit, reader) -> list[dict]:
    """Return rows of group a in the run of its half."""
    table = reader(f"{audit.half.workspace}/runs/{audit.runs[1]}").to_arrow_table()
    return [row for row in table.to_pylist() if row["group"] == "a"]


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_model_and_moments_have_the_size_of_their_share(audit):
    workspace = Workspace(Folder(audit.whole.workspace))
    model = padim.open_model(audit.half.workspace)
    sizes = {}
    for name in "ab":
        at = Path(workspace.at(workspace.model_group(model.info.model_id, name)))
        parts = [part for part in find_fit(workspace, audit.fits[1]).parts if part.group == name]
        receipts = [read_record(workspace.folder, part.receipt, KeptPart) for part in parts]
        moments = sum(bytes_below(Path(workspace.at(one.moments))) for one in receipts)
        sizes[name] = bytes_below(at), moments
    assert sizes["a"][0] <= 0.55 * sizes["b"][0]
    assert sizes["a"][1] <= 0.55 * sizes["b"][1]
    # Group b is embedded once: its parts are those of the model of whole pictures.
    before = {part.receipt for part in find_fit(workspace, audit.fits[0]).parts}
    now = {part.receipt: part.group for part in find_fit(workspace, audit.fits[1]).parts}
    assert {now[receipt] for receipt in before & now.keys()} == {"b"}


def test_distances_inside_are_the_same_bits_and_nothing_is_known_outside(audit):
    whole, half = heatmaps(audit, 0), heatmaps(audit, 1)
    assert half.image_id.values.tolist() == whole.image_id.values.tolist()
    a = (half.group == "a").values
    distances = half.distance.values
    np.testing.assert_array_equal(distances[~a], whole.distance.values[~a])
    np.testing.assert_array_equal(distances[a][..., :8], whole.distance.values[a][..., :8])
    assert np.isnan(distances[a][..., 8:]).all()
    full = half.padim.full().values
    assert np.isnan(full[a][..., 32:]).all()
    assert np.isfinite(full[a][..., :32]).all()
    np.testing.assert_array_equal(full[~a], whole.padim.full().values[~a])
    np.testing.assert_allclose(np.nanmax(full, axis=(1, 2)), half.score.values, rtol=2e-3)


def test_scores_peaks_regions_and_p_values_are_those_of_the_inside(audit):
    scored = [row for row in rows_of(audit, padim.open_scores) if row["status"] == "scored"]
    assert len(scored) == 18
    for row in scored:
        assert row["peak_x"] < 48
        assert row["p_value"] is not None
        parts = row["score_fine"] + row["score_middle"] + row["score_coarse"]
        assert parts == pytest.approx(row["score"], rel=1e-4)
    regions = rows_of(audit, padim.open_regions)
    assert regions
    assert max(region["right"] for region in regions) <= 48
    # The calibration has leave-one-out scores of the normal images, as the run judges them.
    model = padim.open_model(audit.half.workspace)
    normal = sorted(row["score"] for row in scored if row["split"] == "train")
    np.testing.assert_allclose(normal, model.calibration("a").scores, rtol=1e-4, atol=1e-4)
    assert np.isfinite(np.nanmedian(model.quality("a").regularised))
    assert "nan" not in " ".join(model.quality("a").warnings())


def test_drift_is_known_inside(audit):
    drift = padim.open_drift(f"{audit.half.workspace}/runs/{audit.runs[1]}")
    ratio = drift.ratio.sel(group="a").values
    assert np.isfinite(ratio[:, :8]).all()
    assert np.isnan(ratio[:, 8:]).all()
    assert np.isfinite(drift.z.values).all()
    whole = padim.open_drift(f"{audit.whole.workspace}/runs/{audit.runs[0]}")
    np.testing.assert_allclose(drift.z.sel(group="b"), whole.z.sel(group="b"))
    assert float(drift.expected.sel(group="a")) != float(whole.expected.sel(group="a"))


def test_pixels_outside_do_not_count_in_the_evaluation(audit):
    found = padim.evaluate(audit.half, run=audit.runs[1])
    assert found.groups["a"].pixel_auroc is not None
    assert not any("region of interest" in note for note in found.notes)


@pytest.mark.slow
def test_defects_outside_are_named_in_the_evaluation(audit):
    """All defects lie in the left half."""
    right = with_roi(audit.whole, {"a": [[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]})
    padim.fit(right)
    found = padim.evaluate(right, run=padim.score(right).run_id)
    assert any("4 defects outside of the region of interest" in note for note in found.notes)
    assert found.groups["a"].pixel_auroc is None
    assert found.groups["b"].pixel_auroc is not None


def test_pictures_show_what_is_not_judged(audit, tmp_path):
    shown = next(row for row in rows_of(audit, padim.open_scores) if row["label"] == "spot")
    out = tmp_path / "one.png"
    padim.show(audit.half, image_id=shown["image_id"], run=audit.runs[1], out=str(out))
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    heated = picture[:, -picture.shape[1] // 2 :]
    middle = heated[heated.shape[0] // 2 - 40 : heated.shape[0] // 2 + 40]
    # Outside it is grey and pale: the picture shines through, with less contrast.
    right = middle[:, 3 * middle.shape[1] // 5 : 4 * middle.shape[1] // 5]
    assert np.ptp(right, axis=-1).max() <= 6
    left = middle[:, middle.shape[1] // 5 : 2 * middle.shape[1] // 5]
    assert np.ptp(left, axis=-1).max() > 30  # colours of the heatmap
    report = padim.report(audit.half, run=audit.runs[1], out=str(tmp_path / "report.html"))
    assert report.without_picture == 0
    page = (tmp_path / "report.html").read_text()
    assert "Judged" in page
    assert "50 %</td>" in page


def test_outlines_end_at_the_region_of_interest(audit, tmp_path):
    padim.export(audit.half, format="coco", out=str(tmp_path / "coco.json"), run=audit.runs[1])
    found = json.loads((tmp_path / "coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in found["images"]}
    own = [one for one in found["annotations"] if names[one["image_id"]].startswith("a/")]
    assert own
    corners = [x for one in own for ring in one["segmentation"] for x in ring[::2]]
    assert max(corners) <= 48.5


def test_an_explanation_and_a_verification_know_the_region(audit):
    found = padim.verify(audit.half, run=audit.runs[1], all_shards=True)
    assert not found.differences


def test_settings_without_a_region_are_those_of_earlier_versions(audit):
    for settings in (model_settings(audit.whole), asked_settings(audit.whole)):
        assert "roi" not in settings["model"]
        assert settings["model"]["batch"] == 4
    attributes = Path(audit.whole.workspace, "models").glob("*.zarr/zarr.json")
    models = [json.loads(path.read_text())["attributes"] for path in attributes]
    assert sorted("inside" in one for one in models)[0] is False


def test_doctor_says_the_share(audit):
    (finding,) = [
        one for one in padim.doctor(audit.half).findings if one.check == "region of interest"
    ]
    assert finding.verdict == "ok"
    assert finding.found == "1 of 2 groups: 'a' 50 % judged"


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ({"c": LEFT}, r"model\.roi names 'c', but the archive has 2 groups: 'a', 'b'"),
        ({"a": "nowhere.png"}, r"the mask nowhere\.png cannot be read"),
        ("text", r"the mask .*text cannot be read: not an image"),
        ("square", r"square.* does not go with its group 'a': it has 80x80 pixels.* has 96x80"),
        ("black", r"leaves nothing of group 'a': by .*black none of the 16x16 patches"),
        ({"b": [[[0, 0], [0.01, 0], [0, 0.01]]]}, r"leaves nothing of group 'b': by the polygons"),
        ("margin", "leaves nothing"),  # the crop cuts it off
    ],
)
def test_masks_that_do_not_fit_are_refused(audit, roi, message):
    folder = audit.folder
    if isinstance(roi, str):
        if roi == "text":
            (folder / roi).write_text("no picture")
        else:
            size = (80, 80) if roi == "square" else (80, 96)
            save_mask(folder / f"{roi}.png", {"square": 0.5, "black": 0, "margin": 0.04}[roi], size)
            (folder / f"{roi}.png").rename(folder / roi)
        roi = {"a": str(folder / roi)}
    config = with_roi(audit.whole, roi)
    with pytest.raises(ConfigError, match=message):
        padim.fit(config)
    (finding,) = [one for one in padim.doctor(config).findings if one.check == "model"][-1:]
    assert finding.verdict == "error"


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ({}, "names no group"),
        ([], "is the path of a mask, or a list of polygons"),
        ([[[0, 0], [1, 1]]], "three or more corners"),
        ([[[0, 0], [640, 0], [640, 480]]], r"shares of the picture, 0 to 1, not pixels.*640"),
        ({"a": [[0, 0], [1, 0], [1, 1]]}, "corner"),
        (3, "is the path of a mask"),
    ],
)
def test_areas_that_are_none_are_refused(tmp_path, roi, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(tmp_path, tmp_path, None, model={"roi": roi})
