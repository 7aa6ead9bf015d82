"""Images that cannot be reached are tried again, with the same bits in the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.nights.audit import conclude_night, open_night, score_night
from padim_dist.config import Config
from padim_dist.storage import Folder
from padim_dist.store.nights import NightSummary
from padim_dist.store.run import Run
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


def test_the_next_nights_take_up_what_was_not_settled(tmp_path, archive, scheduler):
    config = tiny_config(tmp_path, archive, scheduler)
    padim.promote(config, model=padim.fit(config).model_id, note="")
    image, away = archive / "b/test/spot/01.png", tmp_path / "away"

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
