"""Archives that grow: new images, windows of kept moments, images without a score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.errors import ConfigError, RequestError
from tests.conftest import draw, tiny_config
from tests.results import arrays, scores

NIGHTS = 7


def arrive(root: Path, night: int, normal: int = 6, new: int = 3) -> None:
    """Write the images of a night."""
    for i in range(normal):
        draw(root / "a/good" / f"{night}-{i}.jpg", 100 * night + i)
    for i in range(new):
        draw(root / "a/line" / f"{night}-{i}.png", 100 * night + 50 + i, spoiled=i == 0)


def config_of(tmp_path: Path, root: Path, scheduler: str | None, **changes: object) -> Config:
    archive = {"layout": "folder", "group": None, "train": "/good/", "shard_images": 2}
    return tiny_config(tmp_path, root, scheduler, archive=archive, **changes)


@pytest.fixture(scope="module")
def nights(tmp_path_factory, scheduler) -> Config:
    """Seven nights, each indexed and fitted; then only the last night's images are kept."""
    tmp_path = tmp_path_factory.mktemp("nights")
    root = tmp_path / "archive"
    whole = tmp_path / "whole"
    config = config_of(tmp_path, root, scheduler, fit={"window": NIGHTS})
    for night in range(NIGHTS):
        arrive(root, night)
        shutil.copytree(root, whole, dirs_exist_ok=True)  # with their times: the same images
        found = padim.index(config)
        assert (found.number, found.new, found.changed, found.gone) == (night + 1, 9, 0, 0)
        assert padim.fit(config).embedded == 6
    for path in [p for p in root.rglob("*.*") if not p.name.startswith(f"{NIGHTS - 1}-")]:
        path.unlink()
    return config


def normal_rows(config: Config) -> dict[str, float]:
    return {Path(r["uri"]).name: r["score"] for r in scores(config) if r["status"] == "scored"}


@pytest.mark.slow
def test_a_window_equals_one_fit_of_all_nights(tmp_path, nights, scheduler):
    """Most of the images were removed: none is read."""
    fit = padim.fit(nights)
    assert (fit.images, fit.embedded, fit.groups) == (42, 0, {"all": 42})
    whole = Path(nights.archive.url).parent / "whole"
    once = config_of(tmp_path, whole, scheduler)
    assert padim.fit(once).groups == {"all": 42}
    kept, at_once = arrays(nights), arrays(once)
    for name, array in at_once.items():  # products are float32, and of other batches
        np.testing.assert_allclose(kept[name], array, rtol=1e-5, atol=2e-5 * np.abs(array).max())
    # Both models give the same images the same scores.
    of_window = nights.model_copy(update={"archive": once.archive})
    by_window = padim.score(of_window, model=fit.model_id, new=True)
    padim.score(once)
    found = {Path(r["uri"]).name: r["score"] for r in rows_of(nights, by_window.run_id)}
    wanted = normal_rows(once)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)


def rows_of(config: Config, run_id: str | None) -> list[dict]:
    run = f"{config.workspace}/runs/{run_id}"
    return padim.open_scores(run).to_arrow_table().to_pylist()


def changed(config: Config, **fit: object) -> Config:
    return config.model_copy(update={"fit": config.fit.model_copy(update=fit)})


@pytest.mark.slow
def test_a_night_and_a_shard_are_left_out_by_name(tmp_path, nights, scheduler):
    """The model equals a fit without them."""
    last = padim.history(nights).entries[-1]
    folder = Path(nights.workspace) / "manifests" / str(last.increment)
    rows = pq.read_table(folder / "part-00000.parquet").to_pylist()
    bad = next(row["shard"] for row in rows if row["split"] == "train")
    taken = {Path(r["uri"]).name for r in rows if r["shard"] == bad}
    out = changed(nights, without=("2", f"7/{bad}"), parts=1)
    root = tmp_path / "rest"
    whole = Path(nights.archive.url).parent / "whole"
    shutil.copytree(whole, root)
    for path in (root / "a/good").iterdir():
        if path.name in taken or path.name.startswith("1-"):
            path.unlink()
    once = config_of(tmp_path / "once", root, scheduler)
    padim.fit(once)
    # Every part has one shard: the parts that are left out are not merged.
    assert padim.fit(changed(out, parts=32)).embedded == 0
    compare(arrays(out), arrays(once))
    # One part a night: the shard is subtracted from it. Earlier nights' images are missing.
    with_subtraction = changed(out, window=1, without=(f"7/{bad}",))
    fit = padim.fit(with_subtraction)
    assert fit.embedded == 6  # the shard's moments are found by content
    assert fit.groups == {"all": 6 - len(taken)}
    names = {p.name for p in (root / "a/good").iterdir() if p.name.startswith("6-")}
    for path in (root / "a/good").iterdir():
        if path.name not in names:
            path.unlink()
    alone = config_of(tmp_path / "alone", root, scheduler)
    padim.fit(alone)
    compare(arrays(with_subtraction), arrays(alone))


def compare(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


def test_a_shard_with_missing_images_is_not_subtracted(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, scheduler, fit={"window": 3, "parts": 1})
    padim.index(config)
    padim.fit(config)
    shards = padim.history(config).entries[0]
    rows = pq.read_table(
        Path(config.workspace) / f"manifests/{shards.increment}/part-00000.parquet"
    ).to_pylist()
    bad = next(row for row in rows if row["split"] == "train")
    Path(bad["uri"]).unlink()
    with pytest.raises(RequestError, match=r"1 image of 2 changed"):
        padim.fit(changed(config, without=(f"1/{bad['shard']}",)))


def test_unknown_names_are_refused(nights):
    for name in ("99", "2001-01-01", "7/99"):
        with pytest.raises(RequestError, match=f"fit.without names {name}, but the window has"):
            padim.fit(changed(nights, without=(name,)))
    with pytest.raises(ConfigError, match="'last week' is neither a day"):
        config_of(Path("x"), Path("y"), None, fit={"window": 2, "without": ["last week"]})
    with pytest.raises(ConfigError, match="'without' needs a 'window'"):
        config_of(Path("x"), Path("y"), None, fit={"without": ["7"]})


def test_new_changed_and_removed_images_are_recorded(tmp_path):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, None)
    first = padim.index(config)
    assert (first.number, first.new, first.changed, first.gone) == (1, 9, 0, 0)
    again = padim.index(config)
    assert (again.number, again.new, again.changed, again.gone) == (1, 0, 0, 0)
    draw(root / "a/line/0-0.png", 999)
    (root / "a/line/0-1.png").unlink()
    draw(root / "a/line/1-0.png", 5)
    second = padim.index(config)
    assert (second.number, second.new, second.changed, second.gone) == (2, 1, 1, 1)
    entry = padim.history(config).entries[1]
    table = pq.read_table(Path(config.workspace) / str(entry.changes)).to_pylist()
    found = {(row["change"], Path(row["uri"]).name) for row in table}
    assert found == {("changed", "0-0.png"), ("gone", "0-1.png"), ("new", "1-0.png")}
    tags = {row["change"]: (row["etag"], row["previous_etag"]) for row in table}
    assert None not in tags["changed"]
    assert len(set(tags["changed"])) == 2
    assert tags["new"][1] is None
    assert tags["gone"][0] is None
    manifest = Path(config.workspace) / f"manifests/{entry.increment}/part-00000.parquet"
    came = pq.read_table(manifest).to_pylist()
    assert sorted(Path(row["uri"]).name for row in came) == ["0-0.png", "1-0.png"]
    (root / "a/line/1-0.png").unlink()
    third = padim.index(config)
    assert (third.number, third.new, third.gone) == (3, 0, 1)
    assert padim.history(config).entries[2].increment is None


def test_new_images_are_scored_once(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    (root / "a/line/broken.png").write_bytes(b"no picture")
    config = config_of(tmp_path, root, scheduler, score={"splits": ["test"]})
    model = padim.fit(config).model_id
    assert padim.score(config, new=True).statuses == {"scored": 3, "unreadable": 1}
    nothing = padim.score(config, new=True)
    assert (nothing.run_id, nothing.images, nothing.statuses) == (None, 0, {})
    arrive(root, 1)
    draw(root / "a/line/0-1.png", 777)
    padim.index(config)
    tonight = padim.score(config, new=True)
    names = {Path(row["uri"]).name for row in rows_of(config, tonight.run_id)}
    assert names == {"0-1.png", "1-0.png", "1-1.png", "1-2.png"}
    # A full run of the same images gives the same rows.
    whole = {row["uri"]: row["score"] for row in rows_of(config, padim.score(config).run_id)}
    assert all(whole[row["uri"]] == row["score"] for row in rows_of(config, tonight.run_id))
    # Another model has no scores yet.
    arrive(root, 2)
    padim.index(config)
    other = padim.fit(config).model_id
    assert other != model
    assert padim.score(config, new=True, model=other).images == 3 * 3 + 1
    assert padim.score(config, new=True, model=model).images == 3


def test_an_interrupted_run_of_new_images_is_resumed(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0, new=8)
    config = config_of(tmp_path, root, scheduler, score={"splits": ["test"]})
    padim.fit(config)
    run_id = padim.score(config, new=True).run_id
    run = Path(config.workspace) / "runs" / str(run_id)
    head = json.loads((run / "run.json").read_text())
    del head["finished_at"]
    (run / "run.json").write_text(json.dumps(head))
    next((run / "scores").iterdir()).unlink()
    again = padim.score(config, new=True)
    assert again.run_id == run_id
    assert (again.scored, again.resumed) == (2, 6)


def test_a_missing_image_that_returns_is_new(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, scheduler, score={"splits": ["test"]})
    padim.fit(config)
    away = root / "a/line/0-2.png"
    kept = tmp_path / "kept.png"
    away.rename(kept)
    assert padim.score(config, new=True).statuses == {"scored": 2, "missing": 1}
    kept.rename(away)
    assert padim.score(config, new=True).statuses == {"scored": 1}
    assert padim.score(config, new=True).images == 0


def test_a_night_with_only_a_new_camera_becomes_rows(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, scheduler, score={"splits": ["test"]})
    grouped = config.archive.model_copy(update={"group": "^(?P<group>[^/]+)/"})
    config = config.model_copy(update={"archive": grouped})
    padim.fit(config)
    padim.score(config, new=True)
    draw(root / "b/line/0.png", 1)
    padim.index(config)
    night = padim.score(config, new=True)
    assert night.statuses == {"no_model": 1}
    (row,) = rows_of(config, night.run_id)
    assert row["error"] == f"model {night.model_id} has no group 'b'; fit one that has it"


@pytest.mark.slow
def test_promotions_and_rollback(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, scheduler)
    with pytest.raises(RequestError, match="no model is promoted"):
        padim.score(config, model="promoted")
    first = padim.fit(config).model_id
    assert padim.promote(config, model=first[:6], note="the first").model_id == first
    with pytest.raises(RequestError, match="is promoted already"):
        padim.promote(config, model=first, note="")
    with pytest.raises(RequestError, match="no promotion to go back to"):
        padim.rollback(config, note="")
    arrive(root, 1)
    padim.index(config)
    second = padim.fit(config).model_id
    # A newer candidate is not used until it is promoted.
    assert padim.score(config, model="promoted").model_id == first
    padim.promote(config, model=second, note="more light")
    assert padim.score(config, model="promoted").model_id == second
    back = padim.rollback(config, note="too many alarms")
    assert (back.model_id, back.undoes) == (first, 2)
    assert padim.score(config, model="promoted").model_id == first
    found = padim.models(config)
    assert {m.model_id: m.state for m in found.models} == {first: "promoted", second: "retired"}
    assert [p.note for p in found.promotions] == ["the first", "more light", "too many alarms"]
    with pytest.raises(RequestError, match="no promotion to go back to"):
        padim.rollback(config, note="")
    with pytest.raises(RequestError, match="has 0 finished models whose id begins with 'zz'"):
        padim.promote(config, model="zz", note="")
    # A model with other settings is not used.
    other = config.model_copy(update={"model": config.model.model_copy(update={"seed": 7})})
    with pytest.raises(
        RequestError, match=r"not made with the settings of the configuration: model\.seed"
    ):
        padim.score(other, model="promoted")


def test_an_older_snapshot_can_be_scored(tmp_path, scheduler):
    root = tmp_path / "archive"
    arrive(root, 0)
    config = config_of(tmp_path, root, scheduler, score={"splits": ["test"]})
    first = padim.index(config).snapshot
    padim.fit(config)
    arrive(root, 1)
    padim.index(config)
    assert padim.score(config, snapshot=first).images == 3
    assert padim.score(config).images == 6
    with pytest.raises(RequestError, match="has no manifest 'abc'"):
        padim.score(config, snapshot="abc")
