"""Images that cannot be reached are tried again, with the same bits in the end."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

import padim_dist as padim
from padim_dist.api.nights.audit import conclude_night, open_night, score_night
from padim_dist.api.pipeline.score_plan import plan_score
from padim_dist.api.settings.lookup import choose_model, choose_run, find_manifest
from padim_dist.archive.reading.objects import RetryPolicy
from padim_dist.config import Config
from padim_dist.engine.score import score_shard
from padim_dist.errors import RunError
from padim_dist.events import Event, TaskStarted
from padim_dist.storage import Folder
from padim_dist.store.nights import NightSummary
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.turns import claim_turn
from padim_dist.store.workspace import Workspace
from tests.conftest import make_mvtec, tiny_config
from tests.results import arrays, same, scores


@pytest.fixture
def archive(tmp_path) -> Path:
    return make_mvtec(tmp_path / "archive", groups=("b",))


def results(config: Config) -> tuple[list[dict], bytes, bytes]:
    maps = padim.open_heatmaps(config.workspace)
    run = Run(Workspace(Folder(config.workspace)), scores(config)[0]["run_id"])
    drift = (Path(run.url) / "drift" / "b.json").read_bytes()
    return scores(config), maps["distance"].to_numpy().tobytes(), drift


def test_a_score_goes_on_where_images_were_missing(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config)
    usual = padim.score(config)
    expected = results(config)
    shutil.rmtree(Path(config.workspace) / "runs")
    image, other = archive / "b/test/spot/01.png", archive / "b/test/good/03.png"
    image.rename(tmp_path / "away")
    other.rename(tmp_path / "gone")
    first = padim.score(config)
    assert first.statuses == {"scored": 16, "unreadable": 3, "missing": 2}
    assert first.unsettled == 2
    assert first.notes[0].startswith("2 rows not settled")
    still = results(config)
    (tmp_path / "gone").rename(other)
    second = padim.score(config)
    assert (second.run_id, second.unsettled, second.resumed) == (first.run_id, 1, 21)
    assert len([row for row in scores(config) if row not in still[0]]) > 0
    (tmp_path / "away").rename(image)
    third = padim.score(config)
    assert (third.statuses, third.flagged, third.notes) == (usual.statuses, usual.flagged, [])
    assert results(config) == expected
    # What is settled is left alone, and so is a run of a version that kept no means.
    image.unlink()
    assert padim.score(config).statuses == usual.statuses


def test_what_was_scored_is_not_lost_when_the_rest_is_tried_again(tmp_path, archive, scheduler):
    """An image of the shard can be read now, and another one that was scored cannot any more."""
    config = tiny_config(tmp_path, archive, scheduler, archive={"shard_images": 50})
    padim.fit(config)
    image, other = archive / "b/test/spot/01.png", archive / "b/test/good/03.png"
    image.rename(tmp_path / "away")
    padim.score(config)
    expected = results(config)
    (tmp_path / "away").rename(image)
    other.unlink()
    assert padim.score(config).statuses == {"scored": 17, "unreadable": 3, "missing": 1}
    assert results(config) == expected


def test_a_finished_run_stays_one_while_it_is_tried_again(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config)
    image = archive / "b/test/spot/01.png"
    image.rename(tmp_path / "away")
    first, workspace = padim.score(config), Workspace(Folder(config.workspace))

    def stop(event: Event) -> None:
        if isinstance(event, TaskStarted):
            assert choose_run(workspace, None).run_id == first.run_id
            raise KeyboardInterrupt

    (tmp_path / "away").rename(image)
    with pytest.raises(KeyboardInterrupt):
        padim.score(config, stop)
    assert choose_run(workspace, None).run_id == first.run_id
    assert padim.score(config).unsettled == 0


def test_a_copy_of_a_task_that_tries_again_changes_nothing(tmp_path, archive, scheduler):
    """Both found the shard not settled; the second one writes what the first one has written."""
    config = tiny_config(tmp_path, archive, scheduler, archive={"shard_images": 50})
    padim.fit(config)
    image = archive / "b/test/spot/01.png"
    image.rename(tmp_path / "away")
    padim.score(config)
    (tmp_path / "away").rename(image)
    plan = plan_score(config, choose_model(config, None), find_manifest(config), partial=False)
    places = [job for job in plan.jobs if job.find().unsettled]
    (job,) = (replace(job, again=True) for job in places)
    with Client(scheduler, set_as_default=False) as client:
        first, second = (
            client.submit(score_shard, job, ignore_report, pure=False).result() for _ in range(2)
        )
    assert first == second
    assert first.unsettled == 0
    assert padim.score(config).unsettled == 0


def ignore_report(_done: int, _failed: int) -> None:
    """Ignore how far a task is."""


def test_a_part_with_unreachable_images_is_embedded_again(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config)
    expected = arrays(config)
    for folder in ("models", "moments", "fits"):
        shutil.rmtree(Path(config.workspace) / folder)
    image = archive / "b/train/good/07.jpg"
    image.rename(tmp_path / "away")
    found = padim.fit(config)
    assert found.failures == {"missing": 1}
    (warning,) = [text for text in found.warnings if "could not be reached" in text]
    (tmp_path / "away").rename(image)
    assert not same(arrays(config), expected)
    model = Path(config.workspace) / "models" / f"{found.model_id}.zarr"
    assert str(model) in warning
    shutil.rmtree(model)
    assert padim.fit(config).embedded == 3  # images of its part
    assert same(arrays(config), expected)


def test_a_part_whose_images_are_gone_keeps_its_moments(tmp_path, archive, scheduler):
    """With `fit.window` old images may be removed: only more images replace what was embedded."""
    config = tiny_config(tmp_path, archive, scheduler)
    image = archive / "b/train/good/07.jpg"
    padim.index(config)
    image.rename(tmp_path / "away")
    first = padim.fit(config)
    expected = arrays(config)
    shutil.rmtree(Path(config.workspace) / "models")
    (tmp_path / "away").rename(image)
    for other in (archive / "b/train/good").glob("*.jpg"):
        if other != image:
            other.unlink()
    again = padim.fit(config)
    assert (again.model_id, again.failures) == (first.model_id, {"missing": 1})
    assert same(arrays(config), expected)


def test_the_next_nights_take_up_what_was_not_settled(tmp_path, archive, scheduler, monkeypatch):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.promote(config, model=padim.fit(config).model_id, note="")
    image, away = archive / "b/test/spot/01.png", tmp_path / "away"
    other = archive / "b/test/spot/00.png"

    def work_without_image() -> NightSummary:
        night = open_night(config)
        assert night is not None
        image.rename(away)
        summary = conclude_night(config, night, score_night(config, night))
        away.rename(image)
        return summary

    first = work_without_image()
    assert (first.retried, first.unsettled, first.statuses["missing"]) == (0, 1, 1)
    page = (Path(first.folder) / "summary.md").read_text()
    assert "1 image not settled (missing): the next night tries again." in page
    second = work_without_image()
    assert (second.retried, second.unsettled, second.statuses) == (1, 1, {"missing": 1})
    assert second.reasons[0].startswith("no image came")
    (third,) = padim.audit(config).nights
    assert (third.retried, third.unsettled, third.statuses) == (1, 0, {"scored": 1})
    assert third.runs == second.runs, "the same images: the same run goes on"
    (fourth,) = padim.audit(config).nights
    assert (fourth.retried, fourth.images) == (0, 0)
    # After a night without runs the heads of all runs are not read either.
    workspace = Workspace(Folder(config.workspace))
    for _ in range(70):
        claim_turn(workspace, "another", int)
    (fifth,) = padim.audit(config).nights
    assert fifth.runs == []
    image.write_bytes(other.read_bytes())
    assert work_without_image().unsettled == 1

    def refuse(_: Workspace) -> None:
        raise AssertionError("the heads of all runs are read")

    monkeypatch.setattr("padim_dist.api.pipeline.new_images.list_runs", refuse)
    (last,) = padim.audit(config).nights
    assert (last.retried, last.statuses) == (1, {"scored": 1})


def test_masks_are_not_blamed_for_an_ill_store(tmp_path, archive, scheduler, monkeypatch):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.fit(config)
    padim.score(config)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Folder, "read_body", fail)
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: None)
    with pytest.raises(RunError, match="its store is ill"):
        padim.evaluate(config)
