"""What a prune does where it is killed, where it fails, and beside other commands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import padim_dist as padim
from padim_dist.api.nights import promotions
from padim_dist.api.pipeline.new_images import scored_images
from padim_dist.api.retention.facts import KnownFacts
from padim_dist.api.retention.inventory import Inventory
from padim_dist.api.retention.policy import Item, Key
from padim_dist.api.retention.prune import prune_after_night
from padim_dist.api.retention.removal import Removal
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config, RetentionConfig
from padim_dist.engine.fit import EmbedJob
from padim_dist.errors import RequestError, RunError
from padim_dist.events import ignore
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.models import FitHead, FitPart, find_fit, put_fit
from padim_dist.store.nights import last_night
from padim_dist.store.numbered import numbered_file
from padim_dist.store.objects import list_objects
from padim_dist.store.promotions import read_promotions
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tombstones import Tombstone, pruned_runs, put_tombstone
from tests.api.nights import put_night
from tests.api.workspace import age, made_config, put_run, region_rows, score_rows
from tests.conftest import draw, tiny_config

ONE, TWO = "aa" * 8, "bb" * 8


@pytest.fixture
def config(tmp_path) -> Config:
    """A workspace of two runs, long over their terms; the second is the newest run."""
    config = made_config(str(tmp_path), retention={"runs": "30d", "heatmaps": "30d"})
    for turn, run in enumerate((ONE, TWO), 1):
        rows = score_rows(run, 20, seed=turn)
        put_run(config, run, rows, regions=region_rows(rows), turn=turn)
        for name in ("drift.zarr/zarr.json", "heatmaps.zarr/zarr.json", "heatmaps.zarr/c/0"):
            workspace_of(config).folder.put(f"runs/{run}/{name}", b"{}")
    age(tmp_path, 90)
    return config


def removed_in_order(monkeypatch) -> list[str]:
    """Return the paths that are removed from now on."""
    paths: list[str] = []
    remove = Folder.remove

    def noted(folder: Folder, path: str) -> None:
        paths.append(path)
        remove(folder, path)

    monkeypatch.setattr(Folder, "remove", noted)
    return paths


def test_a_run_that_was_made_again_and_pruned_again_counts_once(tmp_path):
    config = made_config(str(tmp_path))
    workspace = workspace_of(config)
    put_run(config, ONE, score_rows(ONE, 20), turn=1)
    first = Run(workspace, ONE).head()
    again = replace(first, turn=7, finished_at="2026-11-20T00:00:00+00:00")
    for head in (again, first):
        put_tombstone(workspace, Tombstone.of(head, 1, [], "2026-12-01T00:00:00+00:00"))
    assert [stone.turn for stone in pruned_runs(workspace, ())] == [7]
    workspace.folder.remove_tree(f"runs/{ONE}")
    assert padim.connect(config).sql("SELECT count(*) FROM runs").fetchall() == [(1,)]


def test_the_receipts_of_a_run_go_before_what_they_vouch_for(config, monkeypatch):
    workspace_of(config).folder.put(f"runs/{ONE}/compact.json", b"{}")
    age(Path(config.workspace, "runs", ONE), 90)
    paths = removed_in_order(monkeypatch)
    padim.prune(config)
    own = [path.removeprefix(f"runs/{ONE}/") for path in paths if path.startswith(f"runs/{ONE}/")]
    assert own[:4] == [
        "run.json", "compact.json", "scores/shard-0000000.parquet", "scores/shard-0000001.parquet"
    ]  # fmt: skip
    assert "drift.zarr/zarr.json" in own[4:]


def test_a_fit_names_its_parts_before_it_looks_for_their_receipts(tmp_path, monkeypatch):
    """So a prune that removes moments sees that they are needed."""
    draw(tmp_path / "archive/a/good/1.jpg", 1)
    config = tiny_config(
        tmp_path, tmp_path / "archive", "tcp://127.0.0.1:1",
        archive={"layout": "folder", "group": None, "train": "/good/"},
    )  # fmt: skip
    named: list[str] = []

    def look(jobs: Sequence[EmbedJob]) -> None:
        workspace = workspace_of(config)
        (name,) = workspace.folder.list("fits")
        head = find_fit(workspace, name)
        named.extend(part.receipt for part in head.parts)
        assert named == [job.receipt for job in jobs]
        raise InterruptedError

    monkeypatch.setattr("padim_dist.api.pipeline.fit.find_receipts", look)
    with pytest.raises(InterruptedError):
        padim.fit(config)
    assert named


def test_a_finished_run_of_an_open_night_stays(config):
    workspace, settings = workspace_of(config), archive_settings(config)
    put_night(config, 1)
    night = last_night(workspace, settings)
    file = numbered_file(workspace.nights(settings), 1)
    scope = {**asdict(night), "model_id": "m" * 16, "snapshots": ["0" * 16]}
    workspace.folder.put_json(file, scope)
    age(Path(config.workspace), 90)
    assert padim.prune(config).objects == 0
    assert Run(workspace, ONE).head().is_finished
    workspace.folder.remove(file)
    assert padim.prune(config).objects > 0
    assert Run(workspace, ONE).find_head() is None


def between(monkeypatch, act: Callable[[], None]) -> None:
    """Let something happen between the inventory of a prune and its removals."""
    remove = Removal.remove

    def later(removal: Removal, items: Sequence[Item]) -> list[Item]:
        act()
        return remove(removal, items)

    monkeypatch.setattr(Removal, "remove", later)


@pytest.mark.parametrize("terms", [{"runs": "30d"}, {"heatmaps": "30d"}])
def test_a_run_that_is_asked_for_again_meanwhile_stays(config, monkeypatch, terms):
    run = Run(workspace_of(config), ONE)
    before = {one.path for one in list_objects(run.workspace.folder, run.path)}
    between(monkeypatch, lambda: run.ask_again({"asked": "again"}, "2026-12-01T00:00:00+00:00"))
    found = padim.prune(config.model_copy(update={"retention": RetentionConfig(**terms)}))
    assert before <= {one.path for one in list_objects(run.workspace.folder, run.path)}
    assert found.objects == 0
    assert "stay" in found.notes[0]
    assert "it has changed meanwhile" in found.notes[0]


def test_a_manifest_that_is_written_again_meanwhile_stays(config, monkeypatch):
    folder = workspace_of(config).folder
    folder.put("manifests/abcd/manifest.json", b"{}")
    age(Path(config.workspace), 90)
    between(monkeypatch, lambda: folder.put("manifests/abcd/manifest.json", b"{}"))
    terms = RetentionConfig(manifests="30d")
    found = padim.prune(config.model_copy(update={"retention": terms}))
    assert found.notes == ["manifest abcd stays: it has changed meanwhile"]
    assert folder.exists("manifests/abcd/manifest.json")


def test_a_model_that_goes_while_it_is_promoted_is_not_promoted(tmp_path, monkeypatch):
    config = made_config(str(tmp_path))
    workspace = workspace_of(config)
    monkeypatch.setattr(promotions, "model_of_id", lambda _, model: SimpleNamespace(model_id=model))
    with pytest.raises(RequestError, match=f"model {ONE} is not there any more: a prune has"):
        padim.promote(config, model=ONE)
    assert read_promotions(workspace) == []
    for name in (ONE, TWO):
        workspace.folder.put(f"{workspace.model(name)}/zarr.json", b"{}")
        padim.promote(config, model=name)
    workspace.folder.remove_tree(workspace.model(ONE))
    with pytest.raises(RequestError, match="Nothing was promoted"):
        padim.rollback(config)
    assert [one.model_id for one in read_promotions(workspace)] == [ONE, TWO]


def test_a_lease_that_is_released_does_not_make_a_fit_young(config):
    """A fit that failed long ago needs no moments, whatever prune has held its lease since."""
    workspace, receipt = workspace_of(config), "moments/e/g/one.json"
    workspace.folder.put(receipt, b"{}")
    put_fit(workspace, FitHead("f" * 16, {}, [FitPart("g", receipt, "0" * 16, True)], ""))
    age(Path(config.workspace), 300)
    terms = RetentionConfig(moments="30d")
    with hold(workspace, workspace.fit("f" * 16)):
        assert padim.prune(config.model_copy(update={"retention": terms})).objects == 0
    padim.prune(config.model_copy(update={"retention": terms}))
    assert not workspace.folder.exists(receipt)
    assert find_fit(workspace, "f" * 16) is None


def test_a_fit_whose_lease_the_prune_holds_does_not_keep_its_moments(config):
    """The model goes with its moments at once, though its fit stays."""
    workspace, receipt = workspace_of(config), "moments/e/g/one.json"
    workspace.folder.put(receipt, b"{}")
    put_fit(workspace, FitHead("f" * 16, {}, [FitPart("g", receipt, "0" * 16, True)], ""))
    age(Path(config.workspace), 300)
    objects = list_objects(workspace.folder, "moments")
    needs = frozenset({("fit", "f" * 16)})
    items = [
        Item(("moments", receipt), objects, objects[0].modified, (receipt,)),
        Item(("model", TWO), [], objects[0].modified, needs=needs),
    ]
    young = datetime.now(UTC) - timedelta(days=7)

    def wanted(held: Collection[str]) -> set[Key]:
        read = Inventory(workspace, KnownFacts(workspace), 0, young, frozenset(held))
        return read.wanted(read.read())

    removal = Removal(workspace, ignore, {}, wanted)
    assert removal.remove(items) == items
    assert removal.notes == []
    assert not workspace.folder.exists(receipt)


def test_what_cannot_be_removed_is_named_and_does_not_stop_the_rest(config, monkeypatch):
    folder = workspace_of(config).folder
    for name in ("m1", "m2"):
        folder.put(f"manifests/{name}/manifest.json", b"{}")
    put_run(config, "dd" * 8, score_rows("dd" * 8, 20), turn=0)
    age(Path(config.workspace), 90)
    refused = [f"runs/{ONE}/run.json", "manifests/m1/manifest.json"]
    remove = Folder.remove

    def refuse(folder: Folder, path: str) -> None:
        if path in refused:
            raise PermissionError(f"no right to remove {path}")
        remove(folder, path)

    monkeypatch.setattr(Folder, "remove", refuse)
    terms = RetentionConfig(runs="30d", manifests="30d")
    config = config.model_copy(update={"retention": terms})
    with pytest.raises(RunError, match="2 of 5 could not be removed") as raised:
        padim.prune(config)
    assert all(path in str(raised.value) for path in refused)
    assert folder.list("manifests") == ["m1"]
    assert Run(workspace_of(config), "dd" * 8).find_head() is None
    monkeypatch.undo()
    padim.prune(config)
    assert folder.list("manifests") == []
    assert folder.list("runs") == [TWO]


def test_the_time_of_a_prune_is_that_of_its_own_lease(config):
    """A file of an earlier prune with a wrong time does not make all else old."""
    put_run(config, "dd" * 8, score_rows("dd" * 8, 20), turn=0)
    workspace_of(config).folder.put("pruned/runs-2026-01.json", b'{"runs": {}}')
    age(Path(config.workspace, "pruned"), -400)
    padim.prune(config)
    assert workspace_of(config).folder.list("runs") == [TWO, "dd" * 8]


def test_a_night_beside_another_prune_does_not_warn(config, caplog):
    workspace = workspace_of(config)
    with hold(workspace, workspace.pruned), caplog.at_level("INFO", "padim_dist"):
        assert prune_after_night(config, lambda: padim.prune(config))
    (record,) = [one for one in caplog.records if "prune" in one.getMessage()]
    assert (record.levelname, record.getMessage()[:27]) == ("INFO", "another prune is at work: r")


def test_heatmaps_that_a_killed_prune_has_left_are_not_called_pruned(config):
    run = Run(workspace_of(config), ONE)
    run.put_pruned("heatmaps.zarr")
    assert run.pruned_notes() == []
    run.workspace.folder.remove_tree(run.heatmaps.path)
    (note,) = run.pruned_notes()
    assert note.startswith(f"heatmaps of run {ONE} were pruned on ")


def test_compact_skips_a_run_that_goes_meanwhile(config, monkeypatch, caplog):
    heads = list_runs(workspace_of(config))
    monkeypatch.setattr("padim_dist.api.analysis.compact.list_runs", lambda _: heads)
    padim.prune(config)
    found = padim.compact(config)
    assert (found.runs, found.left) == (1, [ONE])
    assert f"run {ONE} is gone: a prune has removed it meanwhile" in caplog.text
    padim.prune(config)
    assert workspace_of(config).folder.list("runs") == [TWO]


def test_images_of_pruned_runs_count_as_new_with_a_warning(config, caplog):
    model = "m" * 16
    assert sum(map(len, scored_images(config, model))) > 0
    assert caplog.text == ""
    padim.prune(config)
    list(scored_images(config, "n" * 16))
    assert "pruned" not in caplog.text
    list(scored_images(config, model))
    assert f"has removed 1 run of model {model}: " in caplog.text
