"""The whole pipeline on real worker processes and one archive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import padim_dist as padim
from padim_dist.api.pipeline.fit_plan import plan_fit
from padim_dist.api.settings import plans
from padim_dist.config import ClusterConfig, Config, make_config
from padim_dist.engine.cluster.local import open_local
from padim_dist.engine.fit import embed_part
from padim_dist.errors import ArchiveError, RequestError, ResourceError, RunError
from padim_dist.events import Event, Progress, TaskFinished, TaskStarted, ignore
from padim_dist.storage import Folder
from padim_dist.store.parts.sample import SampleWriter
from tests.conftest import draw, make_mvtec, tiny_config
from tests.results import arrays, same, scores


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_mvtec(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def audit(tmp_path_factory, archive, scheduler) -> Config:
    """An audit that is indexed, fitted and scored."""
    config = tiny_config(tmp_path_factory.mktemp("audit"), archive, scheduler)
    padim.index(config)
    padim.fit(config)
    padim.score(config)
    return config


def test_one_worker_and_two_give_the_same_bits(tmp_path, archive, audit):
    with open_local(ClusterConfig(workers=1, memory="4GiB"), 1, None) as client:
        alone = tiny_config(tmp_path, archive, client.scheduler.address)
        padim.fit(alone)
        padim.score(alone)
    assert same(arrays(alone), arrays(audit))
    assert scores(alone) == scores(audit)


def test_every_image_is_one_row(archive, audit):
    rows = scores(audit)
    images = [p for p in archive.rglob("*") if p.suffix in (".jpg", ".png")]
    wanted = {str(p) for p in images if "ground_truth" not in p.parts}
    assert sorted(row["uri"] for row in rows) == sorted(wanted)
    bad = {Path(row["uri"]).name: row for row in rows if row["status"] != "scored"}
    assert bad.keys() == {"empty.jpg", "text.png", "cut.jpg"}
    assert bad["empty.jpg"]["error"] == "the file is empty"
    assert bad["text.png"]["error"].startswith("not an image")
    for row in bad.values():
        assert row["score"] is row["heatmap_row"] is row["peak_y"] is None
    for row in rows:
        if row["status"] == "scored":
            assert (row["width"], row["height"]) == (96, 80)
            assert 0 <= row["peak_y"] < 80
            assert 0 <= row["peak_x"] < 96


def test_defects_score_high_where_they_are(audit):
    rows = [r for r in scores(audit) if r["status"] == "scored" and r["split"] == "test"]
    good = [r["score"] for r in rows if r["label"] == "good"]
    spots = [r for r in rows if r["label"] == "spot"]
    assert min(r["score"] for r in spots) > max(good)
    for row in spots:
        assert 32 <= row["peak_y"] <= 64
        assert 12 <= row["peak_x"] <= 44


def test_heatmaps_belong_to_their_images(audit):
    heatmaps = padim.open_heatmaps(audit.workspace)
    full = heatmaps.padim.full()
    assert full.shape == (len(heatmaps.row), 64, 64)
    np.testing.assert_allclose(full.max(("y", "x")), heatmaps.score, rtol=2e-3)
    by_id = {row["image_id"]: row["score"] for row in scores(audit)}
    for image_id, score in zip(heatmaps.image_id.values, heatmaps.score.values, strict=True):
        assert by_id[image_id] == score


def test_a_score_does_not_depend_on_its_neighbours(tmp_path, archive, audit, scheduler):
    """With the same model and other shards, scores are the same bits."""
    other = tiny_config(tmp_path, archive, scheduler, archive={"shard_images": 7})
    model = padim.open_model(audit.workspace).info.model_id
    (tmp_path / "audit").mkdir()
    for folder in ("models", "weights"):
        (tmp_path / "audit" / folder).symlink_to(Path(audit.workspace) / folder)
    padim.score(other)
    keep = ("image_id", "score", "peak_y", "peak_x", "status", "error")
    assert [{k: r[k] for k in keep} for r in scores(other)] == [
        {k: r[k] for k in keep} for r in scores(audit)
    ]
    assert {r["model_id"] for r in scores(other)} == {model}


def test_a_second_run_does_nothing(audit):
    before = {p: p.stat().st_mtime_ns for p in Path(audit.workspace).rglob("*") if p.is_file()}
    fit = padim.fit(audit)
    scored = padim.score(audit)
    assert (fit.embedded, fit.resumed) == (0, 20)
    assert (scored.scored, scored.resumed) == (0, scored.images)
    assert scored.statuses == {"scored": 36, "unreadable": 3}
    after = {p: p.stat().st_mtime_ns for p in Path(audit.workspace).rglob("*") if p.is_file()}
    assert before == after


@pytest.mark.slow
def test_lost_receipts_are_made_again(tmp_path, archive, audit, scheduler):
    """A run that was killed with half-written files resumes to the same result."""
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config)
    workspace = Path(config.workspace)
    model = padim.open_model(config.workspace).info.model_id
    # As if killed in mid-fit: no model attributes, one band and one part without receipt.
    root = workspace / "models" / f"{model}.zarr" / "zarr.json"
    head = json.loads(root.read_text())
    head["attributes"] = {}
    root.write_text(json.dumps(head))
    next((workspace / "models").rglob("band-00001-*.json")).unlink()
    receipt = sorted((workspace / "moments").glob("*/a/*.json"))[1]
    # A killed task leaves half of a data file and no receipt.
    part = workspace / json.loads(receipt.read_text())["moments"]
    receipt.unlink()
    data = next(p for p in part.rglob("c/*/*/*") if p.is_file())
    data.write_bytes(data.read_bytes()[:100])
    again = padim.fit(config)
    assert 0 < again.embedded < again.resumed
    padim.score(config)
    run = workspace / "runs" / padim.score(config).run_id
    victims = sorted((run / "scores").iterdir())[1:3]
    rows = sum(pq.read_metadata(victim).num_rows for victim in victims)
    for victim in victims:
        victim.unlink()
    resumed = padim.score(config)
    assert (resumed.scored, resumed.scored + resumed.resumed) == (rows, resumed.images)
    assert same(arrays(config), arrays(audit))
    assert scores(config) == scores(audit)


def test_evaluate(audit):
    result = padim.evaluate(audit)
    assert result.groups.keys() == {"a", "b"}
    for figures in result.groups.values():
        assert (figures.images, figures.anomalous) == (8, 4)
        assert figures.image_auroc == 1.0
        assert figures.pixel_auroc > 0.9
        assert figures.pro > 0.7
        assert figures.image_best_f1.f1 == 1.0
    assert result.groups["a"].not_scored == 3
    written = json.loads(
        (Path(audit.workspace) / "runs" / result.run_id / "metrics.json").read_text()
    )
    assert written["groups"]["b"]["pro"] == result.groups["b"].pro


def test_open_model_shows_the_dense_gaussian(audit):
    model = padim.open_model(audit.workspace)
    covariance = model.covariance(3, 5, group="a")
    assert covariance.shape == (40, 40)
    np.testing.assert_allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() >= 0.0099
    assert model.mean(3, 5, "a").shape == (40,)
    with pytest.raises(RequestError, match="no group None; it has"):
        model.mean(0, 0)
    assert model.info.embedding.trunk.backbone == "resnet18"
    assert "resnet18, 40 channels" in repr(model)


def test_progress_is_reported_and_ends_complete(tmp_path, archive, scheduler):
    heard: list[Event] = []
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config, heard.append)
    padim.score(config, heard.append)
    last = {event.stage: event for event in heard if isinstance(event, Progress)}
    stages = {"index", "fit: embed", "fit: factorise", "fit: leave out", "fit: calibrate"}
    stages |= {"score", "score: drift"}
    assert last.keys() == stages | {"workers"}
    opened = [event.waiting for event in heard if event.stage == "workers"]
    assert len(opened) == 4
    assert opened[0] > 0 == opened[1], "tasks wait until the cluster is open"
    assert all(p.done == p.total for p in last.values())
    assert last["score"].failed == 3
    started = {(e.stage, e.task) for e in heard if isinstance(e, TaskStarted)}
    finished = [(e.stage, e.task) for e in heard if isinstance(e, TaskFinished)]
    assert started == set(finished)
    assert len(finished) == len(set(finished))
    done = [e for e in heard if isinstance(e, TaskFinished) and e.stage == "score"]
    assert sum(e.images for e in done) == last["score"].total
    assert sum(e.failed for e in done) == 3
    assert all(e.seconds > 0 for e in done)


def test_new_test_images_do_not_refit_but_are_scored(tmp_path, scheduler):
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, scheduler)
    model = padim.fit(config).model_id
    first = padim.score(config)
    draw(root / "a/test/spot/99.png", 999, spoiled=True)
    assert padim.score(config).scored == 0  # score uses the manifest
    padim.index(config)
    assert padim.fit(config).embedded == 0
    second = padim.score(config)
    assert second.model_id == model
    assert second.images == first.images + 1


def test_equivalent_splits_find_the_same_run(tmp_path, scheduler):
    """All splits and the only split mean the same run, in any order of the commands."""
    for i in range(3):
        draw(tmp_path / "archive/train/good" / f"{i}.png", i)
    configs = [
        tiny_config(
            tmp_path,
            tmp_path / "archive",
            scheduler,
            archive={"group": None},
            score={"splits": splits},
        )
        for splits in (["train"], ["train", "test"])
    ]
    padim.fit(configs[0])
    assert padim.score(configs[0]).run_id == padim.score(configs[1]).run_id
    assert padim.score(configs[0]).scored == 0
    for config in configs:
        with pytest.raises(RequestError, match="no labelled image of the split 'test'"):
            padim.evaluate(config)


def test_settings_that_changed_are_named(audit):
    changed = audit.model_copy(update={"model": audit.model.model_copy(update={"seed": 5})})
    with pytest.raises(RequestError, match=r"differs in model\.seed: 1024 -> 5\. Set them back"):
        padim.score(changed)
    # evaluate uses the existing run; changed settings of score do not matter.
    quiet = make_config({**audit.model_dump(), "score": {"heatmaps": "none"}})
    assert padim.evaluate(quiet) == padim.evaluate(audit)


def test_no_heatmaps_if_none_are_requested(tmp_path, archive, audit, scheduler):
    config = tiny_config(
        tmp_path, archive, scheduler, score={"heatmaps": "none", "splits": ["test"]}
    )
    padim.fit(config)
    result = padim.score(config)
    assert result.images == 19
    with pytest.raises(RequestError, match="kept no heatmaps"):
        padim.open_heatmaps(config.workspace)
    figures = padim.evaluate(config).groups["b"]
    assert (figures.image_auroc, figures.pixel_auroc, figures.pro) == (1.0, None, None)


def test_a_group_without_normal_images_is_left_out(tmp_path, scheduler):
    """The rows of its images say so; the other groups are scored."""
    root = make_mvtec(tmp_path / "archive")
    for path in (root / "b/train/good").iterdir():
        path.unlink()
    config = tiny_config(tmp_path, root, scheduler)
    fit = padim.fit(config)
    assert fit.groups == {"a": 10}
    assert fit.warnings[0].startswith("no normal image in 1 of 2 groups ('b')")
    assert padim.score(config).statuses == {"scored": 18, "unreadable": 3, "no_model": 8}
    errors = {row["error"] for row in scores(config) if row["group"] == "b"}
    assert errors == {f"model {fit.model_id} has no group 'b'; fit one that has it"}
    only_b = tiny_config(tmp_path, root, scheduler, archive={"group": "(?P<group>b)/"})
    with pytest.raises(ArchiveError, match=r"no normal image in 1 of 1 group \('b'\)"):
        padim.fit(only_b)


def test_a_group_without_readable_normal_images_is_left_out(tmp_path, scheduler):
    root = make_mvtec(tmp_path / "archive")
    for path in (root / "b/train/good").iterdir():
        path.write_bytes(b"gone bad")
    config = tiny_config(tmp_path, root, scheduler)
    fit = padim.fit(config)
    assert fit.groups == {"a": 10}
    assert "no normal image could be read of 1 group ('b')" in " ".join(fit.warnings)
    only_b = tiny_config(tmp_path, root, scheduler, archive={"group": "(?P<group>b)/"})
    with pytest.raises(ArchiveError, match="no readable normal image: all 10 failed, the first"):
        padim.fit(only_b)


@pytest.mark.parametrize("sample", [256, 1])
def test_a_part_without_readable_images_is_left_out(tmp_path, scheduler, sample):
    """Whether parts keep the embeddings of all images or moments."""
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    paths = sorted((root / "a/train/good").iterdir())
    whole = [path.read_bytes() for path in paths]
    for path in paths[:4]:
        path.write_bytes(b"gone bad")
    config = tiny_config(tmp_path, root, scheduler, fit={"sample": sample})
    assert padim.fit(config).groups == {"a": 6}
    assert padim.score(config).statuses["scored"] == 6 + 8
    for path, data in zip(paths, whole, strict=True):
        path.write_bytes(data)
    padim.index(config)
    assert padim.fit(config).groups == {"a": 10}


@pytest.mark.parametrize("is_written", [True, False], ids=["receipt", "sample"])
def test_a_part_that_fails_leaves_what_its_receipt_may_name(tmp_path, monkeypatch, is_written):
    """If only the answer to the receipt is lost, the part is whole; else nothing is left."""
    config = tiny_config(tmp_path, make_mvtec(tmp_path / "archive", groups=("a",)), None)
    padim.index(config)
    job = plan_fit(config, ignore, None).jobs[0]
    create = Folder.create_json

    def lost(folder: Folder, *asked: object) -> bool:
        create(folder, *asked)  # type: ignore[arg-type]
        raise OSError("no answer")

    def ill(*_: object) -> None:
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        if is_written:
            patch.setattr(Folder, "create_json", lost)
        else:
            patch.setattr(SampleWriter, "close", ill)
        with pytest.raises(OSError, match="no answer"):
            embed_part(job, lambda *_: None)
    found = job.find()
    left = [path.name for path in Path(config.workspace, "moments").glob("*/*/*.zarr")]
    if is_written:
        assert found is not None
        assert left == [Path(found.moments).name]
    else:
        assert (found, left) == (None, [])


def test_names_without_a_group_become_rows(tmp_path, scheduler):
    root = make_mvtec(tmp_path / "archive")
    config = tiny_config(tmp_path, root, scheduler, archive={"group": "(?P<group>a)/"})
    padim.fit(config)
    result = padim.score(config)
    assert result.statuses["unreadable"] == 3 + 18
    lost = padim.open_scores(config.workspace).filter('"group" is null').fetchall()
    assert len(lost) == 18


def test_fewer_images_than_channels_still_fit(tmp_path, scheduler):
    root = make_mvtec(tmp_path / "archive", groups=("a",), normal=1)
    config = tiny_config(tmp_path, root, scheduler)
    result = padim.fit(config)
    assert "too few normal images for 40 channels in 1 group: 'a' 1" in result.warnings[0]
    padim.score(config)
    assert np.isfinite([r["score"] for r in scores(config) if r["status"] == "scored"]).all()


def test_a_full_disk_ends_in_a_message(tmp_path, archive, scheduler, monkeypatch):
    """A file system of 3 MB: the projection refuses it; without it, the worker's error names it."""
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)],
        capture_output=True,
        timeout=60,
    )
    if mounted.returncode:
        pytest.skip("SKIPPED PART: a small file system cannot be mounted here")
    # A failed run does not wait for the other worker's task, which may have a file open there.
    leave = ["umount", "--lazy", str(disk)]
    try:
        config = tiny_config(tmp_path, archive, scheduler, workspace=str(disk / "audit"))
        with pytest.raises(OSError, match="No space left"):
            padim.fit(config)  # not even the weights fit
    finally:
        subprocess.run(leave, check=True, timeout=60)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(disk)], check=True, timeout=60
    )
    try:
        config = tiny_config(
            tmp_path, archive, scheduler, workspace=str(disk / "audit"), model={"channels": 200}
        )
        with pytest.raises(ResourceError, match=r"writes up to .* are free"):
            padim.fit(config)
        monkeypatch.setattr("padim_dist.api.settings.plans.free_disk", lambda _: None)
        with pytest.raises(RunError, match=r"no space is left in the workspace.*it resumes"):
            padim.fit(config)
    finally:
        subprocess.run(leave, check=True, timeout=60)


def test_no_scheduler_is_named(tmp_path, archive, monkeypatch):
    config = tiny_config(tmp_path, archive, "tcp://127.0.0.1:1")
    monkeypatch.setattr("padim_dist.engine.cluster.remote.PATIENCE", 1.0)
    with pytest.raises(RunError, match="no Dask scheduler answers at"):
        padim.fit(config)


def test_sixteen_bit_grey_archives_work(tmp_path, scheduler):
    rng = np.random.default_rng(0)
    for i in range(6):
        path = tmp_path / "archive/train/good" / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        wide = rng.integers(20000, 40000, (70, 70)).astype(np.uint16)
        Image.fromarray(wide).save(path)
    config = tiny_config(tmp_path, tmp_path / "archive", scheduler, archive={"group": None})
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 6}
    assert torch.isfinite(torch.tensor([r["score"] for r in scores(config)])).all()


def test_the_same_weights_at_another_path_are_the_same_model(tmp_path, archive, scheduler):
    """Weights are compared by content: no new fit, and both configurations find the model."""
    config = tiny_config(tmp_path, archive, scheduler)
    state = plans.load_state(config, plans.plan_embedding(config).trunk)
    configs = []
    for name in ("one.pth", "two.pth"):
        torch.save(dict(state), tmp_path / name)
        model = {"weights": str(tmp_path / name)}
        configs.append(tiny_config(tmp_path, archive, scheduler, model=model))
    first, second = padim.fit(configs[0]), padim.fit(configs[1])
    assert second.model_id == first.model_id
    assert second.embedded == 0
    assert padim.score(configs[0]).run_id == padim.score(configs[1]).run_id
    assert padim.evaluate(configs[0]) == padim.evaluate(configs[1])


def test_other_groups_images_do_not_move_a_runs_rows(tmp_path, scheduler):
    """Shard numbers of the manifest change; the run and its rows do not."""
    root = make_mvtec(tmp_path / "archive")
    config = tiny_config(tmp_path, root, scheduler, score={"splits": ["test"]})
    padim.fit(config)
    first = padim.score(config)
    # More normal images in the first group: its shards use more numbers.
    for i in range(4):
        draw(root / f"a/train/good/more-{i}.jpg", 500 + i)
    padim.index(config)
    again = padim.score(config)
    assert (again.run_id, again.scored) == (first.run_id, 0)
    assert len(scores(config)) == len({row["uri"] for row in scores(config)}) == first.images
    assert padim.evaluate(config).groups.keys() == {"a", "b"}


@pytest.mark.slow
def test_the_model_and_run_asked_for_last_are_used(tmp_path, scheduler):
    """Also if they existed before: a bad image was added and removed."""
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, scheduler)
    good, good_run = padim.fit(config).model_id, padim.score(config).run_id
    draw(root / "a/train/good/bad.jpg", 77, spoiled=True)
    padim.index(config)
    bad, bad_run = padim.fit(config).model_id, padim.score(config).run_id
    assert (bad != good, bad_run != good_run) == (True, True)
    (root / "a/train/good/bad.jpg").unlink()
    padim.index(config)
    assert padim.fit(config).model_id == good
    again = padim.score(config)
    assert (again.model_id, again.run_id, again.scored) == (good, good_run, 0)
    assert padim.evaluate(config).run_id == good_run
    assert padim.open_model(config.workspace).info.model_id == good


def test_moments_may_be_removed_after_the_fit(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    model = padim.fit(config)
    shutil.rmtree(Path(config.workspace) / "moments")
    again = padim.fit(config)
    assert (again.model_id, again.embedded, again.groups) == (model.model_id, 0, model.groups)


def test_a_removed_model_is_fitted_again(tmp_path, archive, scheduler, audit):
    """No receipt is kept without its data; half-made groups are made again."""
    config = tiny_config(tmp_path, archive, scheduler)
    model = Path(config.workspace) / f"models/{padim.fit(config).model_id}.zarr"
    shutil.rmtree(model)
    padim.fit(config)
    assert same(arrays(config), arrays(audit))
    shutil.rmtree(model)
    (model / "a").mkdir(parents=True)
    for path, kind in ((model, ""), (model / "a", "")):
        content = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        (path / "zarr.json").write_text(json.dumps(content) + kind)
    padim.fit(config)
    assert same(arrays(config), arrays(audit))


@pytest.mark.slow
def test_a_missing_archive_makes_no_rows(tmp_path, scheduler):
    """An unmounted share is an error, not a row for each missing image."""
    root = make_mvtec(tmp_path / "archive", groups=("a",))
    config = tiny_config(tmp_path, root, scheduler)
    padim.index(config)
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(
        RunError, match=r"its store is ill: .*archive cannot be read either: No such"
    ):
        padim.fit(config)
    (tmp_path / "elsewhere").rename(root)
    assert padim.fit(config).groups == {"a": 10}


@pytest.mark.parametrize("group", ["..", "zarr.json", "Cam[/x] 1%", "線" * 40, "moments"])
def test_groups_of_any_name(tmp_path, scheduler, group):
    for i in range(3):
        draw(tmp_path / "archive" / f"train/{i}.png", i)
    lines = ["uri,group", *(f"archive/train/{i}.png,{group}" for i in range(3))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    config = tiny_config(
        tmp_path, tmp_path / "t.csv", scheduler, archive={"layout": "table", "group": None}
    )
    assert padim.fit(config).groups == {group: 3}
    assert padim.score(config).statuses == {"scored": 3}
    assert set(padim.open_heatmaps(config.workspace).group.values) == {group}
    assert set(padim.open_heatmaps(config.workspace).label.values) == {None}
