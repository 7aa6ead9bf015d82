"""Every kind of small file in every kind of damage: named, and never a traceback."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from padim_dist.archive.listing.layouts.table_columns import Table
from padim_dist.engine.fit import KeptPart
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from padim_dist.store.history import (
    Entry,
    add_entry,
    last_entry,
    newest_entry,
    read_history,
)
from padim_dist.store.manifests import Shard, read_manifest, read_shard, write_manifest
from padim_dist.store.models import FitHead, asked_of_fit, find_model, list_models, put_fit
from padim_dist.store.nights import (
    DriftNight,
    GroupNight,
    Night,
    NightSummary,
    add_night,
    find_summary,
    last_night,
    put_summary,
    read_nights,
    summaries_before,
)
from padim_dist.store.parquet import open_parquet, reports_parquet_damage
from padim_dist.store.promotions import Promotion, add_promotion, read_promotions
from padim_dist.store.records import find_receipt
from padim_dist.store.runs.arrays import DriftFigures
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tables import Compacted, find_compacted
from padim_dist.store.workspace import Workspace
from tests.api.workspace import score_rows
from tests.store.test_damaged_arrays import write_model

ARCHIVE = {"url": "/archive"}
NOW = "2026-11-27T00:00:00+00:00"
ENTRY = Entry(1, "s1", None, 9, 9, 0, 0, None, NOW)
NIGHT = Night(1, "nights/x/night-00001", 1, 1, ["s"], "m", NOW, "me")
HEAD = RunHead("r", "m", "s", [{}], {}, None, [0], 1, NOW, NOW, finished_at=NOW)
PART = {
    "images": 2,
    "fitted": 1,
    "sampled": 0,
    "moments": "moments/p-1.zarr",
    "failures": [{"image_id": "i", "uri": "u", "status": "missing", "error": "gone"}],
}


def summary(number: int) -> NightSummary:
    group = GroupNight(2, 1, 1.0, 1.0, drift=DriftNight(0.5, 0.1))
    what = (number, "done", [], "2026-11-27", "m", 2, {"scored": 2}, {"cam": group})
    return NightSummary(*what, [], ["r"], "/audit", False, NOW, NOW)


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written and read, and whether damage is refused or only told."""

    path: str
    write: Callable[[Workspace], Any]
    read: Callable[[Workspace], Any]
    refused: bool
    advice: str = ""
    removed: bool = False


def put(path: str, values: Any) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.folder.put_json(path, values)


def shard_manifest(workspace: Workspace, folder: Path) -> str:
    table = pa.table({"image_id": ["a"], "uri": ["/archive/a.png"]})
    shards = [(Shard(0, "cam", "test", 1, 10, "d"), table)]
    return write_manifest(workspace, shards, ARCHIVE, {}, folder, "/archive").snapshot


PLACE = Workspace(Folder("/nowhere"))
KINDS = {
    "history": Kind(
        f"{PLACE.history(ARCHIVE)}/00001.json",
        lambda w: add_entry(w, ARCHIVE, ENTRY),
        lambda w: (last_entry(w, ARCHIVE), read_history(w, ARCHIVE)),
        True,
        "remove its folder and that of the archive's nights",
    ),
    "night": Kind(
        f"{PLACE.nights(ARCHIVE)}/00001.json",
        lambda w: add_night(w, ARCHIVE, NIGHT),
        lambda w: last_night(w, ARCHIVE),
        True,
        "remove it and the folder of its results",
    ),
    "summary": Kind(
        f"{NIGHT.path}/summary.json",
        lambda w: put_summary(w, NIGHT, summary(1)),
        lambda w: find_summary(w, NIGHT.path),
        False,
    ),
    "promotion": Kind(
        "promotions/00001.json",
        lambda w: add_promotion(w, Promotion(1, "m", "", "me", NOW)),
        read_promotions,
        True,
        "promote a model again",
    ),
    "fit": Kind(
        "fits/f/fit.json",
        lambda w: put_fit(w, FitHead("f", {"a": 1}, [], NOW)),
        lambda w: asked_of_fit(w, "f"),
        True,
        "run 'padim-dist fit' without --resume",
    ),
    "model": Kind(
        "models/m.zarr/zarr.json",
        write_model,
        lambda w: find_model(w, "m"),
        True,
        "Remove /.*/models/m.zarr and run 'padim-dist fit'",
    ),
    "run": Kind(
        "runs/r/run.json",
        lambda w: w.folder.put_json("runs/r/run.json", asdict(HEAD)),
        lambda w: Run(w, "r").head(),
        True,
        "run 'padim-dist score' again with the settings of this run",
    ),
    "compact": Kind(
        "runs/r/compact.json",
        put("runs/r/compact.json", asdict(Compacted(1, {"scores": [], "regions": []}, {}, NOW))),
        lambda w: find_compacted(w, "runs/r"),
        True,
        "remove the folder of the run",
    ),
    "drift": Kind(
        "runs/r/drift/cam.json",
        put("runs/r/drift/cam.json", asdict(DriftFigures(1, 1.0, 1.0, 1.0, 0.0))),
        lambda w: Run(w, "r").drift.find("cam"),
        False,
        removed=True,
    ),
    "part": Kind(
        "moments/e/cam/p.json",
        put("moments/e/cam/p.json", PART),
        lambda w: find_receipt(w.folder, "moments/e/cam/p.json", KeptPart),
        False,
        removed=True,
    ),
    "set aside": Kind(
        "set_aside/x.json",
        put("set_aside/x.json", {"image": "it kills"}),
        lambda w: find_receipt(w.folder, "set_aside/x.json", dict[str, str]),
        False,
        removed=True,
    ),
}
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "garbage": lambda _: b"\x89PNG\xff\x00{",
    "cut": lambda data: data[: len(data) // 2],
    "{}": lambda _: b"{}",
    "[]": lambda _: b"[]",
    "null": lambda _: b"null",
    "nested": lambda _: b"[" * 100_000,
    "wrong types": lambda data: json.dumps({name: {"x": []} for name in json.loads(data)}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_named(tmp_path, caplog, name, damage):
    workspace, kind = Workspace(Folder(str(tmp_path))), KINDS[name]
    kind.write(workspace)
    file = tmp_path / kind.path
    assert kind.read(workspace)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    if (name, damage) == ("set aside", "{}"):
        assert kind.read(workspace) == {}, "nothing is set aside"
    elif kind.refused:
        with pytest.raises(DamagedFileError, match=kind.advice) as caught:
            kind.read(workspace)
        assert str(caught.value).startswith(f"{file} is damaged: ")
    else:
        assert kind.read(workspace) is None
        assert f"{file} is damaged: " in caplog.text
        assert file.exists() != kind.removed


@pytest.mark.parametrize("name", sorted({*KINDS} - {"set aside", "model"}))
def test_fields_of_a_later_version_are_ignored(tmp_path, name):
    """A model is another matter: its attributes have a checksum."""
    workspace, kind = Workspace(Folder(str(tmp_path))), KINDS[name]
    kind.write(workspace)
    file, before = tmp_path / kind.path, kind.read(workspace)
    file.write_text(json.dumps({**json.loads(file.read_text()), "of_later": [1]}))
    assert kind.read(workspace) == before


def test_one_of_many_is_left_out(tmp_path, caplog):
    """In lists for people; what decides something is refused instead."""
    workspace = Workspace(Folder(str(tmp_path)))
    for number in (1, 2, 3):
        night = Night(number, workspace.night(ARCHIVE, number), 1, 1, [], "m", NOW, "me")
        add_night(workspace, ARCHIVE, night)
        put_summary(workspace, night, summary(number))
        add_entry(workspace, ARCHIVE, Entry(number, f"s{number}", None, 1, 1, 0, 0, None, NOW))
        add_promotion(workspace, Promotion(number, f"m{number}", "", "me", NOW))
        head = {**asdict(HEAD), "run_id": f"r{number}", "turn": number}
        workspace.folder.put_json(f"runs/r{number}/run.json", head)
    write_model(workspace)
    workspace.folder.put("models/other.zarr/zarr.json", b"{")
    workspace.folder.put("runs/stray", b"a file, where runs are folders")
    workspace.folder.put("runs/r2/run.json", b"")
    for path in (workspace.history(ARCHIVE), workspace.nights(ARCHIVE), "promotions"):
        workspace.folder.put(f"{path}/00002.json", b"{")
    workspace.folder.put(f"{workspace.night(ARCHIVE, 3)}/summary.json", b"")
    assert [head.run_id for head in list_runs(workspace)] == ["r1", "r3"]
    assert [info.model_id for info in list_models(workspace)] == ["m"]
    assert [s.number for s in summaries_before(workspace, ARCHIVE, 4, 9)] == [1, 2]
    nights = read_nights(workspace, ARCHIVE)
    assert [(night.number, found is not None) for night, found in nights] == [(1, True), (3, False)]
    assert [e.number for e in read_history(workspace, ARCHIVE, all_of_them=False)] == [1, 3]
    assert [p.number for p in read_promotions(workspace, all_of_them=False)] == [1, 3]
    newest = newest_entry(workspace)
    assert newest is not None
    assert newest.number == 3
    for name in ("runs/r2/run.json", "models/other.zarr/zarr.json", "night-00003/summary.json"):
        assert f"{name} is damaged: " in caplog.text
    for path in (workspace.history(ARCHIVE), workspace.nights(ARCHIVE), "promotions"):
        assert f"{path}/00002.json is damaged: it is not JSON" in caplog.text


@pytest.mark.parametrize("name", ["manifest.json", "shards.parquet", "part-00000.parquet"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "cut"])
def test_a_damaged_manifest_is_named(tmp_path, name, damage):
    workspace = Workspace(Folder(str(tmp_path / "audit")))
    snapshot = shard_manifest(workspace, tmp_path)
    file = tmp_path / "audit/manifests" / snapshot / name
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(DamagedFileError, match=rf"^\S+/{name} is damaged: .*'padim-dist index'"):
        read_manifest(workspace, snapshot), read_shard(workspace, snapshot, 0)


def test_a_cut_score_table_is_named(tmp_path):
    run = Run(Workspace(Folder(str(tmp_path))), "r")
    for place in (0, 1):
        rows = score_rows("r", 10)
        run.scores.replace(place, pa.Table.from_pylist(rows, run.scores.schema))
    file = tmp_path / "runs/r/scores/shard-0000001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    for read in (lambda: run.scores.count([0, 1]), lambda: list(run.scores.read_shards())):
        with pytest.raises(DamagedFileError, match=r"shard-0000001.parquet is damaged: it is not"):
            read()
    assert [error.file for error in run.scores.find_damaged()] == [str(file)]


def test_any_changed_byte_of_a_page_is_damage_and_no_error_of_the_system(tmp_path):
    folder, file = Folder(str(tmp_path)), tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": list(range(300))}), file, write_page_checksum=True)
    data, refused = file.read_bytes(), 0
    for at in range(4, len(data)):
        for bit in (1, 128):
            file.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            try:
                with open_parquet(folder, "a.parquet", "remove it") as parquet:
                    parquet.read()
            except DamagedFileError:
                refused += 1
    assert refused > len(data)


def test_an_error_of_the_store_is_no_damage(tmp_path, monkeypatch):
    """Also one without a number, which Arrow raises again."""
    pq.write_table(pa.table({"x": list(range(300))}), tmp_path / "a.parquet")
    folder, reads = Folder(str(tmp_path)), count()

    class Ill(io.BytesIO):
        def read(self, size=-1):
            if next(reads):
                raise OSError("the store is ill")
            return super().read(size)

    content = (tmp_path / "a.parquet").read_bytes()
    monkeypatch.setattr(folder.fs, "open", lambda *_, **__: Ill(content))
    with (
        pytest.raises(OSError, match="the store is ill"),
        open_parquet(folder, "a.parquet", "remove it") as parquet,
    ):
        parquet.read()


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    """Neither of a file of the workspace nor of a user's table."""
    with pytest.raises(MemoryError), reports_parquet_damage("a.parquet", "remove it"):
        pa.allocate_buffer(2**62)
    (tmp_path / "t.parquet").touch()
    monkeypatch.setattr("pyarrow.parquet.read_schema", lambda _: pa.allocate_buffer(2**62))
    with pytest.raises(MemoryError):
        Table(Folder(str(tmp_path / "t.parquet")))
