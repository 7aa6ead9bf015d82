"""The newest run, model and entry, though the clock is set back."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from padim_dist.storage import Folder
from padim_dist.store.history import Entry, add_entry, newest_entry
from padim_dist.store.models import find_model, finish_model, list_models
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.workspace import Workspace
from tests.store.test_damaged_arrays import SHAPE, write_model

EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-12-31T00:00:00+00:00"
SETTINGS = {"score": {}}


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(Folder(str(tmp_path)))


def head(run_id: str, at: str) -> RunHead:
    return RunHead(run_id, "m", "s", [SETTINGS], {}, None, [], 0, at, at, finished_at=at)


def start(workspace: Workspace, run_id: str, at: str) -> None:
    Run(workspace, run_id).start(head(run_id, at), [], SHAPE, heatmaps=False)


def ids(workspace: Workspace) -> list[str]:
    return [one.run_id for one in list_runs(workspace)]


def test_runs(workspace):
    for run_id, at in (("old1", EARLY), ("old2", LATE)):  # as version 0.2 wrote them
        values = {k: v for k, v in asdict(head(run_id, at)).items() if k != "turn"}
        workspace.folder.put_json(f"runs/{run_id}/run.json", values)
    start(workspace, "new1", LATE)
    start(workspace, "new2", EARLY)  # the clock was set back
    assert ids(workspace) == ["old1", "old2", "new1", "new2"]
    Run(workspace, "old1").ask_again(SETTINGS, EARLY)
    assert ids(workspace) == ["old2", "new1", "new2", "old1"]
    before = Run(workspace, "old1").head()
    assert Run(workspace, "old1").ask_again(SETTINGS, LATE) == before, "it is the newest already"


def test_models(workspace, tmp_path):
    write_model(workspace)
    info = find_model(workspace, "m")
    assert info is not None
    for model_id, at in (("m2", LATE), ("m3", EARLY)):
        workspace.folder.fs.cp(
            workspace.at("models/m.zarr"), workspace.at(f"models/{model_id}.zarr"), recursive=True
        )
        finish_model(workspace, replace(info, model_id=model_id, asked_at=at))
    assert [one.model_id for one in list_models(workspace)] == ["m", "m2", "m3"]
    finish_model(workspace, replace(info, asked_at=EARLY))
    assert [one.model_id for one in list_models(workspace)] == ["m2", "m3", "m"]


def test_entries_of_several_archives(workspace):
    for number, (archive, at) in enumerate((("a", LATE), ("b", EARLY)), 1):
        entry = Entry(1, f"s{number}", None, 1, 1, 0, 0, None, at)
        assert add_entry(workspace, {"url": archive}, entry)
    newest = newest_entry(workspace)
    assert newest is not None
    assert newest.snapshot == "s2"
