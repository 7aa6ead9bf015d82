"""Reports on real runs of a tiny archive."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.report.gallery import choose_rows
from padim_dist.api.report.report import _gather
from padim_dist.api.report.verdicts import Verdicts
from padim_dist.config import Config
from padim_dist.core.status import GOOD
from padim_dist.errors import RequestError
from padim_dist.events import ignore
from padim_dist.pages.data import ReportData
from padim_dist.storage import Folder
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.workspace import Workspace
from tests.conftest import draw, make_mvtec, tiny_config


@pytest.fixture(scope="module")
def audit(tmp_path_factory, scheduler) -> Config:
    """A workspace with an evaluated run; one image has another shape than the others."""
    folder = tmp_path_factory.mktemp("report")
    archive = make_mvtec(folder / "archive")
    draw(archive / "a/test/spot/long.png", 5, spoiled=True, size=(60, 240))
    # With 10 normal images the smallest p-value is 1/11.
    config = tiny_config(folder, archive, scheduler, score={"alpha": 0.1})
    padim.fit(config)
    padim.score(config)
    padim.evaluate(config)
    return config


def gather(config: Config, top: int = 200) -> ReportData:
    (head,) = list_runs(Workspace(Folder(config.workspace)))
    return _gather(config, head, top, ignore)


def test_counts_are_those_of_the_run(audit):
    data = gather(audit)
    assert data.statuses == {"scored": 37, "unreadable": 3}
    assert {row.status for row in data.failures} == {"unreadable"}
    assert sorted(Path(row.uri).name for row in data.failures) == [
        "cut.jpg", "empty.jpg", "text.png",
    ]  # fmt: skip
    assert {group.name: (group.images, group.scored) for group in data.groups} == {
        "a": (22, 19),
        "b": (18, 18),
    }
    of_b = padim.open_scores(audit.workspace).filter("\"group\" = 'b' AND score IS NOT NULL")
    scores = [score for (score,) in of_b.project("score").fetchall()]
    (b,) = (group for group in data.groups if group.name == "b")
    assert b.median == pytest.approx(np.median(scores), rel=1e-6)
    assert b.p99 == pytest.approx(np.quantile(scores, 0.99), rel=1e-6)
    assert data.histogram is not None
    counts = {split.name: split.counts.sum() for split in data.histogram.splits}
    splits = padim.open_scores(audit.workspace).filter("score IS NOT NULL")
    assert counts == dict(splits.aggregate("split, count(*)", "split").fetchall())


def test_the_gallery_begins_with_the_most_anomalous(audit):
    data = gather(audit, top=9)
    rows = padim.open_scores(audit.workspace).filter("score IS NOT NULL")
    ranks = sorted((p, -score) for p, score in rows.project("p_value, score").fetchall())
    assert [(item.row.p_value, -item.row.score) for item in data.anomalies] == ranks[:9]
    assert {item.row.label for item in data.anomalies} == {"spot"}
    assert all(item.row.flagged for item in data.anomalies)


@pytest.fixture(scope="module")
def data(audit) -> ReportData:
    return gather(audit)


def test_missed_anomalies_have_places_in_a_short_gallery(audit):
    """As if the spots were flagged normal images, and all others missed anomalies."""
    (head,) = list_runs(Workspace(Folder(audit.workspace)))
    verdicts = Verdicts(Run(Workspace(Folder(audit.workspace)), head.run_id), head)
    label = f"CASE WHEN label = '{GOOD}' THEN 'dent' ELSE '{GOOD}' END AS label"
    verdicts._scores = verdicts._scores.project(f"* REPLACE ({label}, label = 'spot' AS flagged)")
    top, missed = verdicts.top(40), verdicts.missed(40)
    assert [row.label for row in top] == [GOOD] * 9 + ["dent"] * 28
    assert missed == top[9:]
    assert choose_rows(verdicts, 8) == [*top[:6], *missed[:2]]
    assert choose_rows(verdicts, 40) == top


def test_images_of_a_group_have_one_colour_scale_with_the_threshold_in_the_middle(data):
    for group in data.groups:
        scale = data.scales[group.name]
        assert scale.is_threshold
        assert scale.middle == group.threshold.value
        assert 0 < scale.start < scale.middle
        assert scale.top == max(group.highest, 2 * scale.middle)
    for item in data.anomalies:
        alpha = np.asarray(Image.open(io.BytesIO(item.heat)).getchannel("A"), float)
        expected = data.scales[item.row.group].shares(np.array([item.row.score]))[0]
        # The heatmap is smaller than the map, so its peak is a little lower.
        assert (alpha.max() / 215) ** 1.25 == pytest.approx(expected, abs=0.08)


def test_masks_are_where_the_spots_are(data):
    masks = [item for item in data.anomalies if item.mask]
    assert {item.row.label for item in masks} == {"spot"}
    assert len(masks) == 8
    for item in masks:
        alpha = np.asarray(Image.open(io.BytesIO(item.mask)).getchannel("A"))
        rows, columns = np.nonzero(alpha > 60)
        top, left, bottom, right = item.map_box
        y, x = (bottom - top) / alpha.shape[0], (right - left) / alpha.shape[1]
        found = [rows.min() * y, (rows.max() + 1) * y, columns.min() * x, (columns.max() + 1) * x]
        expected = [40 - top, 56 - top, 20 - left, 36 - left]
        assert found == pytest.approx(expected, abs=2)


def test_paths_are_those_in_the_archive(audit, data):
    for item in data.anomalies:
        assert Path(audit.archive.url, item.path) == Path(item.row.uri)


def test_the_operating_point_is_that_of_the_flags(audit, data):
    labels = data.labels
    rows = padim.open_scores(audit.workspace).filter("split = 'test' AND score IS NOT NULL")
    rates = "avg(flagged::INT) FILTER (label = 'good'), avg(flagged::INT) FILTER (label != 'good')"
    expected = rows.aggregate(f'"group", {rates}', '"group"').fetchall()
    found = {(group.name, *group.flags.operating) for group in labels.groups}
    assert found == set(expected)


def test_flags_are_as_good_as_evaluate_says_of_a_half_reviewed_run(audit, tmp_path):
    """Images of the model that are reviewed count in neither."""
    shutil.copytree(audit.workspace, tmp_path / "audit")
    config = audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    for file in Path(config.workspace, "runs").glob("*/scores/*.parquet"):
        table = pq.read_table(file)  # as if the archive had no labels
        nulls = pa.nulls(len(table), pa.string())
        place = table.column_names.index("label")
        pq.write_table(table.set_column(place, "label", nulls), file)
    rows = padim.open_scores(config.workspace).filter("score IS NOT NULL").order("p_value, uri")
    some = rows.project('image_id, split, "group"').fetchall()
    fresh = [row for row in some if row[1] == "test"]
    fitted = [image for image, split, _ in some if split == "train"]
    assert fitted
    padim.label(config, images=[image for image, *_ in fresh[:5]], verdict="defect")
    padim.label(config, images=[fresh[-1][0], *fitted], verdict="ok")
    said = padim.evaluate(config)
    labels = gather(config).labels
    assert labels is not None
    assert {group.name: group.flags for group in labels.groups} == {
        name: group.flags for name, group in said.groups.items()
    }
    assert labels.flags == said.flags
    assert sum(row.images for row in labels.rows) == 6
    assert all(group.flags.operating is None for group in labels.groups), "only bounds"
    page = Path(padim.report(config).report).read_text()
    for cell in said.flags.describe():
        assert cell in page
    assert "Dot:" not in page
    assert set(labels.notes) <= set(said.notes)


def test_verdicts_of_people_are_shown_and_decide_what_is_missed(audit, data, tmp_path):
    flagged, other = data.anomalies[0], data.anomalies[-1]
    assert (flagged.row.flagged, other.row.flagged) == (True, False)
    shutil.copytree(audit.workspace, tmp_path / "audit")
    config = audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    padim.label(config, images=[flagged.row.image_id], verdict="ok", note="shadow", by="ann")
    padim.label(config, images=[other.row.image_id], verdict="defect", kind="dent", by="bob")
    known = {item.row.image_id: item for item in gather(config).anomalies}
    first, second = known[flagged.row.image_id], known[other.row.image_id]
    assert (first.truth, first.review.note, first.review.who) == ("ok", "shadow", "ann")
    assert (second.truth, second.review.kind) == ("defect", "dent")
    run = Run(Workspace(Folder(config.workspace)), first.row.run_id)
    verdicts = Verdicts(run, run.head())
    assert second.row.image_id in [row.image_id for row in verdicts.missed(99)]
    path = Path(config.workspace, "marks.json")
    marks = [{"image_id": second.row.image_id, "verdict": "ok", "kind": None, "note": None}]
    path.write_text(
        json.dumps({"padim_dist": "reviews", "run": first.row.run_id, "reviews": marks})
    )
    padim.label(config, file=str(path), by="bob")
    again = {item.row.image_id: item for item in gather(config).anomalies}
    assert again[other.row.image_id].truth == "ok"


def test_drift_is_drawn_over_a_typical_image(audit, data):
    for item in data.drift:
        assert item.picture
        size = Image.open(io.BytesIO(item.picture)).size
        assert size == tuple(reversed(audit.model.crop))


def test_verdicts_are_those_of_the_run(audit):
    data = gather(audit)
    head = json.loads(next(Path(audit.workspace, "runs").rglob("run.json")).read_text())
    assert data.alarms is not None
    assert data.alarms.flagged == head["flagged"] >= 9
    assert data.alarms.expected == pytest.approx(0.1 * 37)
    assert sum(group.flagged or 0 for group in data.groups) == head["flagged"]
    assert data.histogram is not None
    assert sum(split.flagged.sum() for split in data.histogram.splits) == head["flagged"]
    assert data.histogram.of_p_values
    model = padim.open_model(audit.workspace)
    for group in data.groups:
        assert group.threshold is not None
        assert group.threshold.value == model.calibration(group.name).threshold(0.1)
        assert group.drift_z == head["drift"][group.name]["z"]
    assert [item.z for item in data.drift] == sorted((g.drift_z for g in data.groups), reverse=True)
    drift = padim.open_drift(audit.workspace)
    for item in data.drift:
        np.testing.assert_array_equal(item.ratio, drift["ratio"].sel(group=item.group).values)
    assert {item.group: (item.images, item.depth) for item in data.quality} == {
        "a": (10, 40),
        "b": (10, 40),
    }
    assert any("not well determined" in warning for warning in data.warnings)


def test_regions_are_those_of_the_run(audit):
    shown = {
        (item.row.uri, r.region, r.top, r.left, r.bottom, r.right, r.area)
        for item in gather(audit).anomalies
        for r in item.regions
    }
    columns = 'uri, region, "top", "left", bottom, "right", area'
    assert shown == set(padim.open_regions(audit.workspace).project(columns).fetchall())
    spots = [item for item in gather(audit).anomalies if item.row.label == "spot"]
    for item in spots:  # the spot has 16 pixels, from the middle row and column 20
        y, x = item.row.height // 2 + 8, 28
        assert any(r.top <= y < r.bottom and r.left <= x < r.right for r in item.regions)


def test_with_a_false_discovery_rate_its_cutoff_decides(audit, tmp_path):
    shutil.copytree(audit.workspace, tmp_path / "audit")
    config = audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    run_id = padim.judge(config, fdr=0.3).run_id
    head = Run(Workspace(Folder(config.workspace)), run_id).head()
    data = _gather(config, head, 200, ignore)
    assert data.alarms is not None
    assert data.alarms.flagged == head.flagged
    assert data.alarms.expected is None
    assert sum(item.row.flagged is True for item in data.anomalies) == head.flagged


def test_pictures_show_the_image_and_heat_lies_on_the_spot(audit):
    """Also if resizing changes the aspect ratio and the crop cuts off a margin."""
    seen = set()
    for item in gather(audit).anomalies:
        if item.row.label != "spot":
            continue
        assert item.picture
        assert item.heat
        shown = np.asarray(Image.open(io.BytesIO(item.picture)).convert("RGB"), float)
        original = np.asarray(Image.open(item.row.uri).convert("RGB"), float)
        assert shown.shape == original.shape == (item.row.height, item.row.width, 3)
        assert np.abs(shown - original).mean() < 6
        alpha = np.asarray(Image.open(io.BytesIO(item.heat)).getchannel("A"), float)
        rows, columns = np.nonzero(alpha >= alpha.max() - 2)
        top, left, bottom, right = item.map_box
        y = top + (rows.mean() + 0.5) * (bottom - top) / alpha.shape[0]
        x = left + (columns.mean() + 0.5) * (right - left) / alpha.shape[1]
        # A patch is a quarter of a patch of the coarse level; the spot is 16 pixels wide.
        middle = (item.row.height // 2 + 8, 28)
        assert abs(y - middle[0]) < 14
        assert abs(x - middle[1]) < 0.12 * item.row.width
        seen.add((item.row.height, item.row.width))
    assert seen == {(80, 96), (60, 240)}


def test_metrics_are_those_of_evaluate(audit):
    labels = gather(audit).labels
    assert labels is not None
    assert labels.evaluated
    metrics = json.loads(next(Path(audit.workspace, "runs").rglob("metrics.json")).read_text())
    for group in labels.groups:
        figures = metrics["groups"][group.name]
        assert group.image_auroc == figures["image_auroc"]
        assert group.pixel_auroc == figures["pixel_auroc"]
        assert group.best_threshold == pytest.approx(figures["image_best_f1"]["threshold"])
        curve = np.array(group.pro_curve)
        assert len(curve) <= 200
        assert curve[-1, 0] == 0.3
        assert np.trapezoid(curve[:, 1], curve[:, 0]) / 0.3 == pytest.approx(group.pro, abs=0.01)
    kinds = {row.label: row for row in labels.rows}
    assert (kinds["good"].images, kinds["spot"].images) == (8, 9)
    assert kinds["spot"].above_best == 9


def test_report_is_put_into_the_run(audit, tmp_path):
    made = padim.report(audit, top=3)
    path = Path(made.report)
    assert path.parent.name == made.run_id
    assert path.name == "report.html"
    assert path.stat().st_size == made.bytes
    assert "data:image/webp;base64," in path.read_text()
    elsewhere = tmp_path / "deep/er.html"
    assert padim.report(audit, run=made.run_id[:6], out=str(elsewhere)).report == str(elsewhere)
    assert elsewhere.read_text().startswith("<!doctype html>")


def test_wrong_requests_are_refused(audit, tmp_path):
    with pytest.raises(RequestError, match="has 0 runs whose id begins with 'xyz'"):
        padim.report(audit, run="xyz")
    with pytest.raises(RequestError, match="no finished run; 'padim-dist score'"):
        padim.report(audit.model_copy(update={"workspace": str(tmp_path)}))
    with pytest.raises(RequestError, match="--top"):
        padim.report(audit, top=0)


def test_missing_images_have_a_grey_tile(tmp_path, scheduler):
    archive = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, archive, scheduler, score={"heatmaps": "none"})
    padim.fit(config)
    padim.score(config)
    spots = sorted((archive / "a/test/spot").iterdir())
    spots[0].unlink()
    draw(spots[1], 999)  # another image under the same name
    data = gather(config)
    gone = {Path(item.row.uri): item.gone for item in data.anomalies if item.gone}
    assert set(gone) == set(spots[:2])
    assert "missing" in gone[spots[0]]
    assert "changed" in gone[spots[1]]
    page = Path(padim.report(config).report).read_text()
    assert page.count("picture unavailable") == 2
    assert "This run has no heatmaps" in page


def test_half_a_run_without_calibration_is_reported_on_request(tmp_path, scheduler):
    archive = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, archive, scheduler, fit={"sample": 0})
    padim.fit(config)
    run_id = padim.score(config).run_id
    run = Path(config.workspace, "runs", run_id)
    # As a killed command leaves it: not finished, and shards without a score table.
    head = json.loads((run / "run.json").read_text())
    kept = {name: head[name] for name in head if name not in ("finished_at", "statuses")}
    (run / "run.json").write_text(json.dumps(kept))
    tables = sorted((run / "scores").iterdir())
    for table in tables[1:]:
        table.unlink()
    with pytest.raises(
        RequestError, match=f"no finished run, only {run_id}, which is half done: give"
    ):
        padim.report(config)
    made = padim.report(config, run=run_id)
    assert made.images == 4
    page = Path(made.report).read_text()
    assert f"The run is not finished (4 of {head['images']} images)" in page
    assert "Set fit.sample above 0" in page
    tables[0].unlink()
    with pytest.raises(RequestError, match="no finished shard yet"):
        padim.report(config, run=run_id)
