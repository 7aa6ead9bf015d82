"""Pruning of a real workspace: terms, roots, tombstones; beside other commands; killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config, RetentionConfig
from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.models import FitHead, FitPart, put_fit
from padim_dist.store.runs.run import Run
from tests.api.workspace import age
from tests.conftest import draw, tiny_config

TERMS = {"heatmaps": "30d", "runs": "60d", "models": "60d", "moments": "60d", "manifests": "60d"}


def files(workspace: Path, *without: str) -> set[str]:
    """Return the files of a workspace; those of leases and of the prunes do not matter."""
    found = {str(p.relative_to(workspace)) for p in workspace.rglob("*") if p.is_file()}
    return {f for f in found if "lease-" not in f and not f.startswith(("pruned/", *without))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scheduler) -> Config:
    """Three nights, 90, 40 and 0 days ago, a promoted model and one that was never promoted."""
    tmp_path = tmp_path_factory.mktemp("prune")
    root = tmp_path / "archive"
    for i in range(12):
        draw(root / "a/good" / f"{i}.jpg", i)
    config = tiny_config(
        tmp_path, root, scheduler,
        archive={"layout": "folder", "group": None, "train": "/good/"},
        score={"splits": ["test"], "alpha": 0.2}, retention=TERMS,
    )  # fmt: skip
    unused = config.model_copy(update={"model": config.model.model_copy(update={"seed": 7})})
    padim.fit(unused)
    padim.promote(config, model=padim.fit(config).model_id, note="")
    workspace = Path(config.workspace)
    without = config.model_copy(update={"retention": None})
    for night, days in enumerate((50, 40, 0)):
        for i in range(4):
            draw(root / "a/line" / f"{night}-{i}.png", 100 * night + 50 + i, spoiled=i == 0)
        padim.audit(without)
        age(workspace, days)
    # Nobody has asked for these: a run of the model that was never promoted, a half-done run.
    padim.fit(config)
    half = workspace / "runs" / "half" / "scores" / "shard-0000000.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"")
    age(half.parents[1], 10)
    return config


@pytest.fixture
def config(whole, tmp_path) -> Config:
    """A copy, with its times."""
    shutil.copytree(whole.workspace, tmp_path / "audit")
    return whole.model_copy(update={"workspace": str(tmp_path / "audit")})


def runs_of(config: Config) -> list[str]:
    return [run for night in padim.nights(config).nights for run in night.runs]


def test_what_is_over_its_term_goes_and_views_still_tell_of_it(config, tmp_path):
    workspace, (first, second, third) = Path(config.workspace), runs_of(config)
    before = padim.nights(config, weeks=True)
    kept = padim.open_scores(str(workspace / "runs" / second)).order("image_id").fetchall()
    everything = files(workspace)
    plan = padim.prune(config, dry_run=True)
    assert files(workspace) == everything
    found = padim.prune(config)
    assert (found.objects, found.bytes) == (plan.objects, plan.bytes)
    assert found.notes == []
    gone = everything - files(workspace)
    assert found.objects >= len(gone) > 0
    # The run of the first night and a model that was never promoted; heatmaps of the second.
    assert not (workspace / "runs" / first).exists()
    assert not (workspace / "runs" / "half").exists()
    assert not (workspace / "runs" / second / "heatmaps.zarr").exists()
    assert (workspace / "runs" / third / "heatmaps.zarr/zarr.json").exists()
    (model,) = padim.models(config).models
    assert model.state == "promoted"
    after = padim.nights(config, weeks=True)
    assert after.nights == before.nights
    assert [(w.week, w.group, w.images, w.flagged) for w in after.weeks] == [
        (w.week, w.group, w.images, w.flagged) for w in before.weeks
    ]
    assert padim.history(config).entries
    rows = padim.connect(config).sql("SELECT run_id, pruned_at IS NOT NULL, scored FROM runs")
    assert sorted(rows.fetchall()) == sorted(
        [(first, True, 4), (second, False, 4), (third, False, 4)]
    )
    assert padim.open_scores(str(workspace / "runs" / second)).order("image_id").fetchall() == kept
    with pytest.raises(RequestError, match=f"run {first} was pruned on"):
        padim.report(config, run=first)
    why = f"heatmaps of run {second} were pruned on"
    assert why in padim.top(config, run=second).notes[0]
    image = padim.top(config, run=second).anomalies[0].image_id
    with pytest.raises(RequestError, match=why):
        padim.show(config, image_id=image, run=second, out=str(tmp_path / "x.png"))
    with pytest.raises(RequestError, match=why):
        padim.open_heatmaps(str(workspace / "runs" / second))
    page = padim.report(config, run=second, out=str(tmp_path / "r.html"))
    assert why in (tmp_path / "r.html").read_text()
    assert page.anomalies == 4
    shutil.rmtree(workspace / "runs" / second / "regions")
    assert any(why in note for note in padim.judge(config, run=second, review=4).notes)
    # The next night goes on, and there is nothing left to prune but what it brought.
    draw(Path(config.archive.url) / "a/line/new.png", 999)
    assert padim.audit(config).nights[0].images == 1
    (Path(config.archive.url) / "a/line/new.png").unlink()
    assert padim.prune(config).objects == 0


def test_a_clock_that_is_years_ahead_leaves_what_is_in_use(config):
    workspace, third = Path(config.workspace), runs_of(config)[-1]
    age(workspace, 4000)
    padim.prune(config)
    (model,) = padim.models(config).models
    assert model.state == "promoted"
    assert padim.open_heatmaps(str(workspace / "runs" / third)).sizes["row"] == 4
    # All moments of the model are kept: a fit embeds nothing.
    assert padim.fit(config).embedded == 0
    assert padim.index(config).new == 0


def test_terms_that_are_not_set_keep_everything(config):
    only = config.model_copy(update={"retention": RetentionConfig(heatmaps="30d")})
    before = files(Path(config.workspace))
    padim.prune(only)
    gone = before - files(Path(config.workspace))
    assert gone
    assert {path.split("/")[2] for path in gone if "half" not in path} == {"heatmaps.zarr"}


def test_what_another_command_uses_stays(config):
    workspace, (first, *_) = workspace_of(config), runs_of(config)
    with hold(workspace, Run(workspace, first).path):
        found = padim.prune(config)
    assert "has been at work on" in found.notes[0]
    assert padim.open_scores(f"{config.workspace}/runs/{first}").count("*").fetchall() == [(4,)]
    assert padim.prune(config).objects > 0
    assert not Path(config.workspace, "runs", first).exists()


def test_a_fit_that_begins_while_its_moments_go_gets_them_back(config, monkeypatch):
    """It has named its parts before it looks for their receipts."""
    workspace = workspace_of(config)
    receipts = {
        p for p in files(Path(config.workspace)) if p.startswith("moments/") and p.count("/") == 3
    }
    begun: list[str] = []
    remove = Folder.remove

    def remove_and_begin(self, path):
        remove(self, path)
        if path in receipts and not begun:
            begun.append(path)
            part = FitPart("all", path, "0" * 16, merged=True)
            put_fit(workspace, FitHead("f" * 16, {}, [part], "2026-11-27T00:00:00+00:00"))

    monkeypatch.setattr(Folder, "remove", remove_and_begin)
    before = {p: Path(config.workspace, p).read_bytes() for p in files(Path(config.workspace))}
    found = padim.prune(config)
    (path,) = begun
    assert found.notes == [f"moments {path} stays: it is needed again"]
    own = {p for p in before if p.startswith(path.removesuffix(".json"))}
    assert len(own) > 1
    assert all(Path(config.workspace, p).read_bytes() == before[p] for p in own)


KILLED = """
import os, signal, sys
import padim_dist as padim
from padim_dist.storage import Folder

left = int(sys.argv[2])

def killing(function):
    def call(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    return call

for name in ("remove", "remove_tree", "put", "create"):
    setattr(Folder, name, killing(getattr(Folder, name)))
padim.prune(sys.argv[1])
print(int(sys.argv[2]) - left)
"""


def prune_until(config: Config, step: int, place: Path) -> int:
    """Prune in another process that is killed before a step, if it has it; return its steps."""
    place.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-c", KILLED, str(place), str(step)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120)
    if done.returncode == -signal.SIGKILL:
        return step
    assert done.returncode == 0
    return int(done.stdout)


@pytest.mark.slow
def test_a_killed_prune_is_finished_by_the_next(config, tmp_path):
    """At 8 places from the first step to the last: the next one ends as if it had not been."""
    settings, most = tmp_path / "audit.yaml", 10**6
    undisturbed = config.model_copy(update={"workspace": str(tmp_path / "undisturbed")})
    shutil.copytree(config.workspace, undisturbed.workspace)
    weeks = [(w.week, w.group, w.images, w.flagged) for w in padim.nights(config, weeks=True).weeks]
    steps = prune_until(undisturbed, most, settings)
    assert 50 < steps < most
    wanted = files(Path(undisturbed.workspace))
    for step in np.linspace(0, steps - 1, 8).astype(int).tolist():
        place = tmp_path / f"killed-{step}"
        one = config.model_copy(update={"workspace": str(place)})
        shutil.copytree(config.workspace, place)
        assert prune_until(one, step, settings) == step
        # Everything that reads a workspace works in between.
        found = padim.nights(one, weeks=True)
        assert [(w.week, w.group, w.images, w.flagged) for w in found.weeks] == weeks
        assert padim.connect(one).sql("SELECT count(*) FROM runs").fetchall() == [(3,)]
        assert padim.top(one).anomalies
        padim.prune(one)
        assert files(place) == wanted, step
        shutil.rmtree(place)
