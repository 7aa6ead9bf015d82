"""Verdicts from end to end: p-values, flags, regions, drift, budgets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import false_discovery_control

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.engine.leave_out import choose_images
from padim_dist.errors import ConfigError, RequestError
from padim_dist.store.runs.rows import REGIONS_SCHEMA
from tests.conftest import draw, make_mvtec
from tests.conftest import tiny_config as tinier_config
from tests.results import scores

NORMAL = 24


def tiny_config(*where: object, archive: dict | None = None, **changes: object) -> Config:
    """Return a configuration with larger shards, so fewer tasks."""
    return tinier_config(*where, archive={"shard_images": 12, **(archive or {})}, **changes)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_mvtec(tmp_path_factory.mktemp("verdicts") / "archive", normal=NORMAL)


@pytest.fixture(scope="module")
def audit(tmp_path_factory, archive, scheduler) -> Config:
    tmp_path = tmp_path_factory.mktemp("audit")
    config = tiny_config(tmp_path, archive, scheduler, score={"alpha": 0.05})
    padim.fit(config)
    padim.score(config)
    return config


def run_of(config: Config) -> dict:
    (path,) = Path(config.workspace).glob("runs/*/run.json")
    return json.loads(path.read_text())


def regions(config: Config) -> list[dict]:
    files = sorted(Path(config.workspace).glob("runs/*/regions/*.parquet"))
    tables = [pq.read_table(file) for file in files]
    assert all(table.schema.equals(REGIONS_SCHEMA, check_metadata=True) for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_a_calibration_score_is_what_a_fit_without_that_image_gives(tmp_path, scheduler):
    """The closed form, compared with a fit and a score without that image."""
    root = make_mvtec(tmp_path / "archive", groups=("a",), normal=NORMAL)
    whole = tiny_config(tmp_path / "whole", root, scheduler)
    padim.fit(whole)
    calibrated = padim.open_model(whole.workspace).calibration("a").scores
    out = (root / "a/train/good/03.jpg").rename(root / "a/test/good/out.jpg")
    epsilon = 0.01 * (NORMAL - 1) / (NORMAL - 2)
    config = tiny_config(
        tmp_path, root, scheduler, model={"epsilon": epsilon}, score={"splits": ["test"]}
    )
    assert padim.fit(config).groups == {"a": NORMAL - 1}
    padim.score(config)
    (score,) = (row["score"] for row in scores(config) if row["uri"] == str(out))
    assert np.abs(calibrated / score - 1).min() < 1e-4


def test_leave_one_out_results_are_removed_after_calibration(audit):
    (model,) = Path(audit.workspace).glob("models/*.zarr")
    assert list(model.glob(".receipts/*/calibration.json"))
    assert not (model / ".left_out").exists()


def test_rows_have_the_p_values_of_their_groups(audit):
    model = padim.open_model(audit.workspace)
    rows = scores(audit)
    for row in rows:
        if row["status"] != "scored":
            assert row["p_value"] is row["flagged"] is row["p_extrapolated"] is None
            continue
        calibration = model.calibration(row["group"])
        assert len(calibration.scores) == NORMAL
        own = None
        if row["left_out"]:  # its own score is in the sample, up to rounding
            sample = calibration.scores
            own = sample[[np.abs(sample - row["score"]).argmin()]]
        p, extrapolated = calibration.p_values([row["score"]], own)
        assert row["p_value"] == pytest.approx(p[0], rel=1e-3)
        assert row["p_extrapolated"] == extrapolated[0]
        assert row["flagged"] == (row["p_value"] <= 0.05)
    test = [row for row in rows if row["split"] == "test" and row["status"] == "scored"]
    assert all(row["flagged"] for row in test if row["label"] == "spot")
    assert run_of(audit)["flagged"] == sum(bool(row["flagged"]) for row in rows)


def test_an_image_is_flagged_if_and_only_if_it_has_a_region(audit):
    rows = {row["image_id"]: row for row in scores(audit)}
    found = regions(audit)
    assert {r["image_id"] for r in found} == {i for i, row in rows.items() if row["flagged"]}
    shown = set(padim.open_regions(audit.workspace).project("image_id, region").fetchall())
    for region in found:
        row = rows[region["image_id"]]
        likely = region["region"] == 1 or region["p_value"] <= 0.05
        assert ((region["image_id"], region["region"]) in shown) == likely
        assert 0 <= region["top"] <= region["peak_y"] < region["bottom"] <= row["height"]
        assert 0 <= region["left"] <= region["peak_x"] < region["right"] <= row["width"]
        assert 0 < region["area"] <= row["height"] * row["width"]
        if region["region"] == 1:
            # Regions are found in the precision of kept heatmaps.
            assert region["peak"] == pytest.approx(row["score"], rel=1e-3)
            assert (region["peak_y"], region["peak_x"]) == (row["peak_y"], row["peak_x"])
    spots = [r for r in found if r["region"] == 1 and r["label"] == "spot"]
    for region in spots:  # drawn at rows 40 to 56 and columns 20 to 36
        assert region["top"] < 56
        assert region["bottom"] > 40
        assert region["left"] < 36
        assert region["right"] > 20


def test_a_second_score_finds_the_run_as_it_is(audit):
    before = run_of(audit)
    again = padim.score(audit)
    assert (again.scored, again.flagged) == (0, before["flagged"])
    assert again.rule == "target: 5 % of normal images"
    assert run_of(audit) == before


def test_drift_is_found_only_in_the_darker_scene(tmp_path, scheduler):
    root = tmp_path / "archive"
    for group in ("same", "darker"):
        for i in range(60):
            path = root / group / ("good" if i < 40 else "line") / f"{i}.jpg"
            draw(path, i)
            if i >= 40 and group == "darker":
                Image.open(path).point(lambda value: int(value * 0.9)).save(path, quality=95)
    archive = {"layout": "folder", "train": "/good/"}
    more = {"score": {"splits": ["test"]}, "model": {"channels": 16}}
    config = tiny_config(tmp_path, root, scheduler, archive=archive, **more)
    padim.fit(config)
    padim.score(config)
    drift = padim.open_drift(config.workspace)
    assert drift.ratio.shape == (2, 16, 16)
    assert abs(float(drift.z.sel(group="same"))) < 4
    assert float(drift.z.sel(group="darker")) > 20
    assert 0.5 < float(drift.ratio.sel(group="same").mean()) < 2
    assert not list(Path(config.workspace).glob("runs/*/means.zarr"))


def test_one_rule_at_a_time(tmp_path):
    with pytest.raises(ConfigError, match="'per_million' and 'fdr' exclude each other"):
        tiny_config(tmp_path, tmp_path, None, score={"per_million": 5, "fdr": 0.1})
    with pytest.raises(ConfigError, match="'fdr' and 'alpha' exclude each other"):
        tiny_config(tmp_path, tmp_path, None, score={"fdr": 0.1, "alpha": 0.1})


def test_a_run_may_bound_its_false_discoveries(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler, score={"fdr": 0.2, "splits": ["test"]})
    padim.fit(config)
    found = padim.score(config)
    p = np.array([row["p_value"] for row in scores(config) if row["status"] == "scored"])
    wanted = false_discovery_control(p) <= 0.2
    assert found.flagged == wanted.sum() > 0
    assert run_of(config)["cutoff"] == p[wanted].max()


def test_without_a_sample_there_are_scores_and_no_verdicts(tmp_path, archive, audit, scheduler):
    config = tiny_config(tmp_path, archive, scheduler, fit={"sample": 0})
    padim.fit(config)
    assert padim.open_model(config.workspace).calibration("a") is None
    assert padim.score(config).flagged is None
    found = {row["image_id"]: row for row in scores(config)}
    for row in scores(audit):
        assert found[row["image_id"]]["score"] == row["score"]
        assert found[row["image_id"]]["flagged"] is None
    with pytest.raises(RequestError, match=r"has no drift: .*fit\.sample: 0"):
        padim.open_drift(config.workspace)


@pytest.mark.slow
def test_a_window_is_calibrated_without_its_images(tmp_path, scheduler):
    root = tmp_path / "archive"
    archive = {"layout": "folder", "group": None, "train": "/good/", "shard_images": 4}
    config = tiny_config(tmp_path, root, scheduler, archive=archive, fit={"window": 2})
    for night in range(2):
        for i in range(12):
            draw(root / "a/good" / f"{night}-{i}.jpg", 100 * night + i)
        padim.index(config)
        padim.fit(config)
        if night == 0:
            for path in root.rglob("0-*.jpg"):
                path.unlink()
    model = padim.open_model(config.workspace)
    assert dict(model.info.counts) == {"all": 24}
    assert len(model.calibration().scores) == 24
    # Images that are left out of the window are not used for calibration.
    entry = padim.history(config).entries[-1]
    manifest = Path(config.workspace) / f"manifests/{entry.increment}/part-00000.parquet"
    shard = next(r["shard"] for r in pq.read_table(manifest).to_pylist() if r["split"] == "train")
    fit = config.fit.model_copy(update={"without": (f"2/{shard}",), "parts": 1})
    # With one part a night the shard is subtracted.
    out = padim.fit(config.model_copy(update={"fit": fit.model_copy(update={"window": 1})}))
    assert out.groups == {"all": 8}
    calibration = padim.open_model(config.workspace).calibration()
    assert len(calibration.scores) == 8


def test_shrinkage_replaces_epsilon(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler, model={"shrinkage": "oas"})
    assert padim.fit(config).groups == {"a": NORMAL, "b": NORMAL}
    assert padim.score(config).flagged is not None
    quality = padim.open_model(config.workspace).quality("a")
    assert (quality.images, quality.depth) == (NORMAL, 40)
    assert quality.regularised.shape == (16, 16)
    assert ((quality.regularised > 0) & (quality.regularised < 1)).all()
    assert "24 images for 40 channels" in quality.warnings()[0]


def test_samples_are_thinned_to_equal_shares():
    thinned = choose_images([256, 100], [10_000, 100])
    assert [len(places) for places in thinned] == [256, 3]
    assert choose_images([1, 2], [2, 4]) == [(0,), (0, 1)]
    assert choose_images([0, 2], [4, 2]) == [(), (0, 1)]
    assert choose_images([0], [0]) == [()]
