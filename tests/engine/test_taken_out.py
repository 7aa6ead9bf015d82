"""Images that a fit takes out again where parts are single shards; fits that go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.errors import RequestError
from padim_dist.events import Event, TaskFinished
from tests.engine.test_normals import BAD, NORMAL, config_of, interrupt_at, make_archive, normals
from tests.results import arrays, same


def test_a_part_of_one_shard(tmp_path, scheduler):
    """What is subtracted has the shards of the part that it is in; any alarm rule may be set."""
    root = make_archive(tmp_path / "archive")
    rule = {"fit": {"parts": 5, "sample": 2}, "score": {"review": 3}}
    config = config_of(tmp_path, root, scheduler, **rule)
    padim.fit(config)
    rows = sorted(normals(config).to_pylist(), key=lambda row: row["uri"])
    read = next(row for row in rows if row["score"] is None)
    Path(read["uri"]).rename(tmp_path / "away.jpg")
    with pytest.raises(RequestError, match=f"{read['image_id']} cannot be taken out of the fit"):
        padim.forget(config, image_ids=[read["image_id"]])
    (tmp_path / "away.jpg").rename(read["uri"])
    assert padim.forget(config, image_ids=[read["image_id"]]).groups == {"all": NORMAL - 1}
    left = {row["image_id"] for row in normals(config).to_pylist()}
    assert left == {row["image_id"] for row in rows} - {read["image_id"]}


@pytest.mark.parametrize("stage", ["fit: factorise", "fit: trial, drop suspects"])
def test_an_image_that_is_back_after_a_kill_changes_the_whole_model(tmp_path, scheduler, stage):
    """Nothing that was made without it is used: the model is that of one undisturbed fit."""
    root = make_archive(tmp_path / "archive")
    (root / "train/good" / BAD[1]).unlink()
    fit = {"parts": 3, **({"suspects": "drop"} if "trial" in stage else {})}
    config = config_of(tmp_path, root, scheduler, fit=fit)
    padim.index(config)
    bad = root / "train/good" / BAD[0]
    times = bad.stat()
    bad.rename(tmp_path / "away.jpg")
    with pytest.raises(KeyboardInterrupt):
        padim.fit(config, interrupt_at(stage))
    (tmp_path / "away.jpg").rename(bad)
    assert bad.stat().st_mtime_ns == times.st_mtime_ns
    resumed = padim.fit(config)
    clean = config_of(tmp_path / "clean", root, scheduler, fit=fit)
    once = padim.fit(clean)
    assert (resumed.groups, resumed.dropped) == (once.groups, once.dropped)
    assert same(arrays(config), arrays(clean))


def test_a_task_of_a_killed_fit_that_ends_late_is_not_taken_for_one_of_the_next(
    tmp_path, scheduler
):
    root = make_archive(tmp_path / "archive")
    (root / "train/good" / BAD[1]).unlink()
    config = config_of(tmp_path, root, scheduler, fit={"parts": 3})
    padim.index(config)
    (root / "train/good" / BAD[0]).rename(tmp_path / "away.jpg")
    with pytest.raises(KeyboardInterrupt):
        padim.fit(config, interrupt_at("fit: calibrate"))
    (tmp_path / "away.jpg").rename(root / "train/good" / BAD[0])
    (model,) = (Path(config.workspace) / "models").iterdir()
    shutil.copytree(model, tmp_path / "late")

    def end_late(event: Event) -> None:
        if isinstance(event, TaskFinished) and event.stage == "fit: embed":
            shutil.copytree(tmp_path / "late", model, dirs_exist_ok=True)

    resumed = padim.fit(config, end_late)
    clean = config_of(tmp_path / "clean", root, scheduler, fit={"parts": 3})
    assert resumed.groups == padim.fit(clean).groups == {"all": NORMAL - 1}
    assert same(arrays(config), arrays(clean))
