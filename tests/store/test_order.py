"""The newest run, model and entry, though the clock is set back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from padim_dist.storage import Folder
from padim_dist.store.history import Entry, add_entry, newest_entry
from padim_dist.store.models import find_model, finish_model, list_models
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.turns import runs_since
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


def test_the_newest_run_is_known_without_reading_all_runs(workspace, monkeypatch):
    read, reads = Folder.read, list[str]()

    def counted(self, path):
        reads.append(path)
        return read(self, path)

    monkeypatch.setattr(Folder, "read", counted)
    costs = []
    for number in range(80):
        reads.clear()
        start(workspace, f"run{number}", LATE)
        assert Run(workspace, f"run{number}").is_newest(SETTINGS)
        assert not Run(workspace, f"run{number}").is_newest({"score": {"other": 1}})
        costs.append(len(reads))
    assert len(set(costs[1:])) == 1, "it does not depend on the runs before"
    assert ids(workspace) == [f"run{number}" for number in range(80)]
    assert len(workspace.folder.list("turns")) < 70, "only the newest turns are kept"
    reads.clear()
    assert runs_since(workspace, 77) == ["run77", "run78", "run79"]
    assert len(reads) == 3
    assert runs_since(workspace, 80) == []
    assert runs_since(workspace, 3) is None, "too long ago"
    Run(workspace, "run2").ask_again(SETTINGS, LATE)
    assert runs_since(workspace, 79) == ["run79", "run2"]


def test_two_runs_never_get_the_same_turn(workspace):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: start(workspace, f"run{n}", LATE), range(24)))
    turns = [one.turn for one in list_runs(workspace)]
    assert sorted(turns) == list(range(1, 25))
