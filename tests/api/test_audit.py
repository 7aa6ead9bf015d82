"""Nights: new images are scored by the promoted model and summarized, also after failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.nights.audit import hold_night, open_night, score_night
from padim_dist.config import Config, make_config
from padim_dist.errors import HeldError, RequestError
from padim_dist.pages.night import night_markdown
from padim_dist.storage import Folder
from padim_dist.store.lease import Holder, Pace
from tests.conftest import draw, tiny_config
from tests.hooks import web_hook


def arrive(config: Config, night: int, images: int = 4, group: str = "a") -> None:
    """Write the images of a night; the first one has a defect."""
    for i in range(images):
        path = Path(config.archive.url) / group / "line" / f"{night}-{i}.png"
        draw(path, 100 * night + i, spoiled=i == 0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, scheduler) -> Config:
    """An archive of normal images, with a fitted model that is not promoted."""
    tmp_path = tmp_path_factory.mktemp("audit")
    time = {"path": r"(?P<time>\d{8}T\d{4})", "format": "%Y%m%dT%H%M"}
    archive = {"layout": "folder", "train": "/good/", "shard_images": 4, "time": time}
    config = tiny_config(
        tmp_path, tmp_path / "archive", scheduler, archive=archive, score={"splits": ["test"]}
    )
    for i in range(8):
        draw(tmp_path / "archive/a/good" / f"{i}.jpg", i)
    padim.index(config)
    padim.fit(config)
    return config


@pytest.fixture(scope="module")
def promoted(fitted) -> Iterator[Config]:
    with pytest.raises(RequestError, match=r"no model is promoted .* 'padim-dist promote MODEL'"):
        padim.audit(fitted)
    assert not Folder(fitted.workspace).list("nights"), "no night was opened"
    (entry,) = padim.models(fitted).models
    padim.promote(fitted, model=entry.model_id, note="looked at it")
    return fitted


def rows_of(config: Config, runs: list[str]) -> list[tuple[str, str]]:
    scores = padim.open_scores([f"{config.workspace}/runs/{run}" for run in runs])
    return sorted(scores.project("uri, status").fetchall())


def test_nights_follow_one_another(promoted):
    """In this order: an empty night, one with images, an interrupted one, one of broken files."""
    config = promoted
    (empty,) = padim.audit(config).nights
    assert (empty.number, empty.state, empty.images, empty.runs) == (1, "odd", 0, [])
    assert "no image came" in empty.reasons[0]
    assert empty.headline.endswith(", archive: odd")
    assert empty.past.startswith("Odd nights can be told from night 4 on: no earlier night")

    arrive(config, 1)
    line = Path(config.archive.url) / "a/line"
    exif = Image.Exif()
    exif[0x0112] = 1
    exif.get_ifd(0x8769)[0x9003] = "2026:11:25 22:00:00"
    with Image.open(line / "1-1.png") as image:
        image.save(line / "1-1.png", exif=exif)
    (line / "1-2.png").rename(line / "1-20261120T0600.png")
    result = padim.audit(config, refit=True)
    (night,) = result.nights
    assert (night.number, night.state, night.statuses) == (2, "done", {"scored": 4})
    assert night.flagged == night.groups["a"].flagged
    assert night.drift.endswith(" from those of the model (drift).")
    assert night.groups["a"].drift.changed == ("do not" not in night.drift)
    assert night.top[0].uri.endswith("/1-0.png"), "the image with the defect"
    assert night.groups["a"].images == 4
    scores = padim.open_scores(f"{config.workspace}/runs/{night.runs[0]}")
    taken = scores.filter("captured_at IS NOT NULL").project("uri, captured_at").order("uri")
    assert [(Path(uri).name, at) for uri, at in taken.fetchall()] == [
        ("1-1.png", datetime(2026, 11, 25, 22, tzinfo=UTC)),
        ("1-20261120T0600.png", datetime(2026, 11, 20, 6, tzinfo=UTC)),
    ]
    page = Path(padim.report(config, run=night.runs[0]).report).read_text()
    assert f"<title>{night.title} - padim-dist</title>" in page
    assert 'id="weeks"' in page
    assert result.candidate == night.model_id, "no new normal image, so the same model"
    folder = Path(night.folder)
    with Image.open(folder / "top.jpg") as picture:
        assert picture.size[1] > 2 * 224, "the picture has two rows of two images"
    assert json.loads((folder / "summary.json").read_text())["images"] == 4
    assert (folder / "summary.md").read_text() == night_markdown(night)

    arrive(config, 2)
    left = open_night(config)
    score_night(config, left)  # as if its process died then
    arrive(config, 3, images=3)
    with hold_night(config, left), pytest.raises(HeldError, match=r"at work on .*night-00003"):
        padim.audit(config)
    found = padim.audit(config).nights
    assert [(n.number, n.images) for n in found] == [(3, 4), (4, 3)]

    bad = Path(config.archive.url) / "a/line"
    for i in range(3):
        (bad / f"4-{i}.png").write_bytes(b"")
    (broken,) = padim.audit(config).nights
    assert (broken.state, broken.statuses, broken.top) == ("odd", {"unreadable": 3}, [])
    assert broken.reasons[0].startswith("100% of 3 images cannot be used (3 unreadable)")
    assert not broken.picture

    arrive(config, 5, group="new-camera")
    (new,) = padim.audit(config).nights
    assert new.statuses == {"no_model": 4}
    assert any("no image of 'a'" in reason for reason in new.reasons)

    uris = [uri for uri, _ in rows_of(config, [run for n in (night, *found) for run in n.runs])]
    assert len(uris) == len(set(uris)) == 11, "every image of these nights has one row"


def test_an_open_night_is_finished_and_no_empty_night_follows(promoted):
    padim.audit(promoted)
    arrive(promoted, 6, images=1)
    left = open_night(promoted)
    (done,) = padim.audit(promoted).nights
    assert (done.number, done.images) == (left.number, 1)


def test_a_night_whose_holder_died_elsewhere_is_taken_over(promoted, monkeypatch):
    """Its lease must expire: this machine cannot check a process of another one."""
    monkeypatch.setattr("padim_dist.store.lease.lease.Pace", lambda: Pace(beat=0.05, expiry=0.5))
    padim.audit(promoted)
    arrive(promoted, 7, images=1)
    left = open_night(promoted)
    dead = replace(Holder.myself(), owner="somebody@else", place="another machine")
    Folder(promoted.workspace).put_json(f"{left.path}/lease-00001.json", vars(dead))
    (done,) = padim.audit(promoted).nights
    assert (done.number, done.images) == (left.number, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Apprise
def test_a_night_that_cannot_be_published_is_done_and_the_next_one_publishes_both(
    promoted, tmp_path, monkeypatch
):
    padim.audit(promoted)
    place = tmp_path / "tables"
    place.write_text("a file, not a folder")
    told = {"urls_from": "PADIM_TEST_NOTIFY", "when": ["failed"]}
    tree = {**promoted.model_dump(), "publish": {"hive": str(place)}, "notify": told}
    config = make_config(tree)
    arrive(config, 8, images=3)
    with web_hook() as (port, posted):
        monkeypatch.setenv("PADIM_TEST_NOTIFY", f"json://127.0.0.1:{port}")
        failed = padim.audit(config)
    (night,) = failed.nights
    assert night.images == 3
    assert "the next night tries again" in failed.unpublished
    assert [message["title"] for message in posted] == ["Publishing of archive failed"]

    place.unlink()
    arrive(config, 9, images=2)
    done = padim.audit(config)
    assert done.unpublished is None
    with duckdb.connect() as database:
        table = f"read_parquet('{place}/images/*/*.parquet')"
        counts = dict(database.sql(f"SELECT night, count(*) FROM {table} GROUP BY 1").fetchall())
    assert (counts[night.number], counts[night.number + 1]) == (3, 2)
    # All nights before are there too: none was ever published.
    earlier = {one.number for one in padim.nights(config).nights if one.images}
    assert counts.keys() == earlier


def test_a_model_of_another_backbone_is_refused_before_a_night_is_opened(promoted):
    other = promoted.model_copy(
        update={"model": promoted.model.model_copy(update={"backbone": "resnet34"})}
    )
    with pytest.raises(RequestError, match=r"model\.backbone: 'resnet18' -> 'resnet34'"):
        padim.audit(other)
