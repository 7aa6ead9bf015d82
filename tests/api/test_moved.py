"""An archive that has moved, with archive.name and without it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.nights.audit import open_night, unfinished_night
from padim_dist.api.sql.tables import read_rows
from padim_dist.config import Config
from padim_dist.errors import RequestError, RunError
from padim_dist.escaping import visible_lines
from padim_dist.store.runs.rows import ScoreRow
from tests.conftest import draw, make_mvtec, tiny_config
from tests.results import scores

ODD = "::x *[a]?%20#'\"é\n"
"""Libraries give each of these a meaning in paths: chains, patterns, escapes, fragments, quotes."""


@pytest.fixture
def moved(tiny_audit: Config, tmp_path: Path) -> Config:
    """A copy of an audit whose archive is elsewhere; the workspace knows the former place."""
    new, audit = tmp_path / f"new/photos {ODD}", tmp_path / f"audit {ODD}"
    shutil.copytree(tiny_audit.archive.url, new)  # keeps times
    shutil.copytree(tiny_audit.workspace, audit)
    return changed(
        tiny_audit,
        workspace=str(audit),
        url=str(new),
        name=tiny_audit.archive.url,
    )


def changed(config: Config, workspace: str | None = None, **archive: Any) -> Config:
    section = config.archive.model_copy(update=archive)
    update = {"archive": section, "workspace": workspace or config.workspace}
    return config.model_copy(update=update)


@pytest.fixture
def gone(tiny_audit: Config, moved: Config) -> Any:
    """The former place is empty while the test runs."""
    before = Path(tiny_audit.archive.url)
    aside = before.with_name("aside")
    before.rename(aside)
    yield
    aside.rename(before)


def test_nothing_is_new_after_a_move(tiny_audit, moved, gone):
    """Not for the history, not for `score --new`; only what has really come."""
    before = padim.history(moved).entries
    assert [entry.number for entry in before] == [1]
    found = padim.index(moved)
    assert (found.number, found.new, found.changed, found.gone) == (2, 0, 0, 0)
    assert padim.score(moved, new=True).images == 0
    draw(Path(moved.archive.url) / "a/test/good/99.png", 99)
    found = padim.index(moved)
    assert (found.number, found.new, found.changed, found.gone) == (3, 1, 0, 0)
    assert padim.score(moved, new=True).images == 1
    again = changed(moved, url=f"{Path(moved.archive.url).parent}/again")
    Path(moved.archive.url).rename(again.archive.url)
    found = padim.index(again)
    assert (found.number, found.new, found.changed, found.gone) == (4, 0, 0, 0)
    assert padim.score(again, new=True).images == 0
    assert {row["uri"] for row in scores(again)} == {f"{moved.archive.url}/a/test/good/99.png"}


@pytest.mark.slow
def test_old_runs_are_read_where_the_archive_is(tiny_audit, moved, gone, tmp_path):
    with pytest.raises(RunError, match="its store is ill"):
        padim.evaluate(changed(moved, name=None, url=tiny_audit.archive.url))
    metrics = padim.evaluate(moved)
    assert metrics.notes == []
    assert all(figures.without_mask == 0 for figures in metrics.groups.values())
    image = padim.top(moved).anomalies[0]
    padim.show(moved, image_id=image.image_id, out=str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert padim.report(moved).images == 39
    assert padim.open_drift(moved.workspace).sizes["group"] == 2
    assert padim.open_heatmaps(moved.workspace).sizes["row"] == 36
    assert padim.query(moved, sql="SELECT count(*) FROM scores").rows == [[39]]
    assert padim.compact(moved).runs == 1
    assert padim.query(moved, sql="SELECT count(*) FROM scores").rows == [[39]]
    (row,) = (row for row in scores(moved) if row["image_id"] == image.image_id)
    assert row["uri"].startswith(tiny_audit.archive.url)  # old rows stay as they are


@pytest.mark.slow
def test_an_archive_with_a_plain_name_moves_twice(tmp_path, scheduler):
    """Runs, an open night and a window of three places are read at the third."""
    make_mvtec(tmp_path / "1", groups=("a",), normal=4)
    named = {"name": "line-3", "shard_images": 64}
    first = tiny_config(tmp_path, tmp_path / "1", scheduler, archive=named)
    model = padim.fit(first).model_id
    padim.promote(first, model=model)
    (run,) = padim.audit(first).nights[0].runs
    metrics = padim.evaluate(first, run=run)

    (tmp_path / "1").rename(tmp_path / "2")
    second = changed(first, url=str(tmp_path / "2"))
    draw(tmp_path / "2/a/test/good/99.png", 99)
    draw(tmp_path / "2/a/train/good/99.jpg", 98)
    night = open_night(second)

    (tmp_path / "2").rename(tmp_path / "3")
    third = changed(first, url=str(tmp_path / "3"))
    assert unfinished_night(third) == night
    (done,) = padim.audit(third).nights
    assert (done.number, done.statuses) == (2, {"scored": 2})
    assert done.picture
    assert padim.evaluate(third, run=run) == metrics
    for run_id in (run, *done.runs):
        images = RunImages(third, run_id)
        rows = read_rows(ScoreRow, padim.open_scores(f"{third.workspace}/runs/{run_id}"))
        assert rows
        for row in rows:
            if row.status == "scored":
                found = images.manifest_rows([row])[row.image_id]
                assert images.reader.load_original(found).shape == (3, 80, 96)
    padim.show(third, image_id=rows[0].image_id, run=run_id, out=str(tmp_path / "a.png"))
    seeded = third.model.model_copy(update={"seed": 1})
    window = third.fit.model_copy(update={"window": 3})
    again = padim.fit(third.model_copy(update={"model": seeded, "fit": window}))
    counts = padim.open_model(third.workspace).info.counts
    assert (again.model_id != model, counts) == (True, {"a": 5})


def test_doctor_says_how_many_images_it_could_read(moved):
    """Also if it could read none of them."""
    good = sorted(Path(moved.archive.url).glob("*/train/good/*.jpg"))
    for path, expected in ((good[:1], "read 5 of 6"), (good, "read 0 of 6")):
        for file in path:
            file.write_bytes(b"no image")
        (found,) = (one for one in padim.doctor(moved).findings if one.check == "images")
        assert found.verdict == "warning"
        assert found.found.startswith(f"{expected} normal images of 2 groups; not ")
        assert "a/train/good/00.jpg (unreadable: not an image" in found.found


def test_without_a_name_the_hint_says_what_to_set(tiny_audit, moved, gone, caplog):
    config = changed(moved, name=None)
    former = tiny_audit.archive.url
    hint = f"as {former}, not as {moved.archive.url}. If it has moved, set archive.name to {former}"
    assert hint in padim.history(config).notes[0]
    assert hint in padim.evaluate(config).notes[0]
    with pytest.raises(RequestError) as caught:
        padim.score(config)
    assert hint in str(caught.value)
    with caplog.at_level(logging.WARNING, "padim_dist"):
        assert padim.index(config).number == 1
    assert visible_lines(hint) in caplog.text
    assert padim.history(config).notes == []
    other = changed(config, train="x/")  # other settings: not this archive
    assert padim.history(other).notes == []


def test_masks_that_do_not_go_with_their_images_are_named(moved):
    """By evaluate and doctor, which agree."""
    folder = Path(moved.archive.url) / "a/ground_truth/spot"
    mask = Image.open(folder / "00_mask.png")
    mask.transpose(Image.Transpose.TRANSPOSE).save(folder / "00_mask.png")
    mask.point(lambda value: 255 - value).save(folder / "01_mask.png")
    Image.new("L", mask.size).save(folder / "02_mask.png")
    (folder / "03_mask.png").write_bytes(b"no image")
    (checked,) = (found for found in padim.doctor(moved).findings if found.check == "masks")
    assert (checked.verdict, checked.found[:17]) == ("warning", "8 masks looked at")
    notes = padim.evaluate(moved).notes
    assert len(notes) == 4
    for number, what in enumerate(
        ("shape of their image: 1, ", "as if inverted: 1, ", "are empty, ", "cannot be read: 1, ")
    ):
        (note,) = (note for note in notes if what in note)
        assert f"a/ground_truth/spot/0{number}_mask.png" in note
        assert note.partition(",")[0] in checked.found
