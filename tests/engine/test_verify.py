"""Verification: every kind of tampering is found, and nothing honest is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.integrity.files import check_files
from padim_dist.api.integrity.plan import chance
from padim_dist.api.integrity.verify import VerifyResult
from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import workspace_of
from padim_dist.cli.app import app
from padim_dist.config import Config
from padim_dist.engine.rescoring.rescore import Rescored
from padim_dist.errors import RequestError, RunError
from padim_dist.events import Progress, ignore
from padim_dist.store.arrays import open_array
from padim_dist.store.runs.run import Run
from tests.api.workspace import config_file
from tests.conftest import draw


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny_audit: Config) -> Config:
    """The tiny audit and a second run, in which images are flagged and so have regions."""
    return copied(tiny_audit, tmp_path_factory.mktemp("verify"), score={"pixel_alpha": 0.002})


def copied(config: Config, folder: Path, score: dict | None = None) -> Config:
    """Return a configuration with a copy of the workspace, and of the archive below it."""
    shutil.copytree(config.workspace, folder / "audit")
    update = {"workspace": str(folder / "audit")}
    if score:
        config = config.model_copy(update={"score": config.score.__class__(**score), **update})
        padim.score(config)
        return config
    return config.model_copy(update=update)


@pytest.fixture
def audit(tmp_path, scored) -> Config:
    return copied(scored, tmp_path)


def folder_of(config: Config) -> Path:
    return Path(config.workspace, "runs", choose_run(workspace_of(config), None).run_id)


def found_in_files(config: Config) -> list[str]:
    """Return which files differ from their digests."""
    head = choose_run(workspace_of(config), None)
    check = check_files(Run(workspace_of(config), head.run_id), head, ignore)
    return [f"{one.file}: {one.found}" for one in check.differences]


def change_table(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    """Change the rows of a table, and nothing else of its file."""
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)


def forge(folder: Path, *files: str) -> None:
    """Make the digests of files right again, up to that of the list in run.json."""
    listed = json.loads((folder / "files.json").read_text())
    for file in files:
        path = folder / file
        if path.exists():
            listed["digests"][file] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            del listed["digests"][file]
    write_list(folder, listed)


def write_list(folder: Path, listed: dict) -> None:
    (folder / "files.json").write_text(json.dumps(listed))
    digest = hashlib.sha256((folder / "files.json").read_bytes()).hexdigest()
    change_head(folder, files=digest)


def change_head(folder: Path, **values: object) -> None:
    head = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**head, **values}))


def spot(config: Config) -> tuple[str, str]:
    """Return the file of a shard with a flagged image, and the address of the image."""
    table = padim.open_scores(config.workspace).filter("flagged AND label = 'spot'")
    shard, uri = table.order("image_id").project("shard, uri").fetchall()[0]
    return f"shard-{shard:07d}.parquet", uri


def test_an_honest_run_is_as_it_was_written(scored):
    folder = folder_of(scored)
    before = {path: path.stat().st_mtime_ns for path in Path(scored.workspace).rglob("*")}
    result = padim.verify(scored, all_shards=True)
    assert result.is_same, result.differences
    assert (result.verdict, result.notes, result.changed) == ("as it was written", [], [])
    assert (result.rows, result.without_digest) == (39, 0)
    assert result.rescored == result.shards > 8
    assert [one.probability for one in result.chances] == [1.0] * len(result.chances)
    # Every file that readers use, apart from what is made of them.
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert result.files == len(files) - len(
        [p for p in files if p.name in ("run.json", "files.json") or p.parent.name == "drift"]
        + [p for p in files if p.name.startswith("lease-")]
    )
    after = {path: path.stat().st_mtime_ns for path in Path(scored.workspace).rglob("*")}
    assert after == before


def test_digests_are_those_of_sha256sum(scored):
    folder = folder_of(scored)
    listed = json.loads((folder / "files.json").read_text())["digests"]
    assert len(listed) > 20
    for file, digest in listed.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest, file
    head = json.loads((folder / "run.json").read_text())
    assert head["files"] == hashlib.sha256((folder / "files.json").read_bytes()).hexdigest()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_heatmap(folder: Path) -> Path:
    return next(p for p in sorted(folder.glob("heatmaps.zarr/distance/c/**/*")) if p.is_file())


def lower(rows: list[dict]) -> list[dict]:
    return [{**row, "score": row["score"] and row["score"] / 2} for row in rows]


def a_row_less(rows: list[dict]) -> list[dict]:
    return rows[1:]


FILES = {
    "a score": (lambda f: change_table(f / "scores/shard-0000003.parquet", lower), "scores/shard"),
    "a region": (
        lambda f: change_table(next(f.glob("regions/shard-*.parquet")), a_row_less),
        "regions/shard",
    ),
    "a heatmap": (lambda f: flip(a_heatmap(f)), "heatmaps.zarr/distance/c/.*digest differs"),
    "no heatmap": (lambda f: a_heatmap(f).unlink(), "heatmaps.zarr/distance/c/.*missing"),
    "no regions": (lambda f: next(f.glob("regions/*")).unlink(), "regions/shard.*missing"),
    "meaning of numbers": (
        lambda f: flip(f / "heatmaps.zarr/distance/zarr.json"),
        "heatmaps.zarr/.*zarr.json",
    ),
    "drift": (lambda f: flip(next(f.glob("drift/*.json"))), "drift: the drift of group"),
    "a drift map": (lambda f: flip(f / "drift.zarr/ratio/c/0/0/0"), "drift.zarr/ratio"),
    "more regions": (
        lambda f: shutil.copy(next(f.glob("regions/*")), f / "regions/added-1.parquet"),
        "regions/added-1.parquet: no receipt names it",
    ),
    "more scores": (
        lambda f: shutil.copy(f / "scores/shard-0000000.parquet", f / "scores/shard-9.parquet"),
        "scores/shard-9.parquet: no receipt",
    ),
    "the list": (
        lambda f: (f / "files.json").write_text((f / "files.json").read_text() + " "),
        "files.json: its digest differs from that in run.json",
    ),
    "no list": (lambda f: (f / "files.json").unlink(), "files.json: it is missing"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_file_is_named(tmp_path, scored, kind):
    change, wanted = FILES[kind]
    audit = scored.model_copy(update={"workspace": str(tmp_path)})
    shutil.copytree(folder_of(scored), tmp_path / "runs" / folder_of(scored).name)
    assert found_in_files(audit) == []
    change(folder_of(audit))
    found = found_in_files(audit)
    assert any(re.match(wanted, one) for one in found), found
    assert len(found) == 1


def test_a_score_changed_together_with_its_digests_is_found_by_scoring_again(audit):
    folder, (shard, uri) = folder_of(audit), spot(audit)
    change_table(
        folder / "scores" / shard,
        lambda rows: [{**r, "p_value": 0.5} if r["uri"] == uri else r for r in rows],
    )
    forge(folder, f"scores/{shard}")
    flagged = json.loads((folder / "run.json").read_text())["flagged"]
    assert found_in_files(audit) == []
    result = padim.verify(audit, all_shards=True)
    by_file = {one.file: one for one in result.differences}
    assert by_file.keys() == {"run.json", "scores"}
    assert by_file["scores"].image == uri
    assert "p_value is 0.5 instead of 0.0" in by_file["scores"].found
    assert f"it says {flagged} flagged images" in by_file["run.json"].found
    done = CliRunner().invoke(
        app, ["verify", "--all", "-c", str(config_file(audit, folder.parent / "audit.yaml"))]
    )
    assert done.exit_code == 3
    assert "different" in done.stdout
    assert Path(uri).name in done.stdout


def test_a_row_that_says_that_its_image_was_not_there_is_named(audit):
    folder, (shard, uri) = folder_of(audit), spot(audit)
    heads = json.loads((folder / "run.json").read_text())

    def hide(status: str) -> VerifyResult:
        change_table(
            folder / "scores" / shard,
            lambda rows: [
                {**r, "status": status, "score": None, "p_value": None} if r["uri"] == uri else r
                for r in rows
            ],
        )
        forge(folder, f"scores/{shard}")
        statuses = {**heads["statuses"], status: 1, "scored": heads["statuses"]["scored"] - 1}
        change_head(folder, statuses=statuses, flagged=heads["flagged"] - 1)
        return padim.verify(audit, all_shards=True)

    result = hide("timeout")
    assert (result.is_same, result.unsettled, result.rows) == (True, [uri], 38)
    assert result.notes == [
        "1 image not compared: not to be reached then, as the run says, and to be read now"
    ]
    # A change of its row would not be found.
    assert result.chances[0].probability == 1 - 1 / result.shards
    (difference,) = hide("changed").differences
    assert (difference.file, difference.image) == ("scores", uri)
    assert "status is 'changed' instead of 'scored'" in difference.found


def test_regions_and_heatmaps_changed_together_with_their_digests_are_found(audit):
    folder, (shard, uri) = folder_of(audit), spot(audit)
    ((row,),) = (
        padim.open_scores(audit.workspace)
        .filter(f"uri = '{uri}'")
        .project("heatmap_row")
        .fetchall()
    )
    array = open_array(workspace_of(audit), f"runs/{folder.name}/heatmaps.zarr", "distance", "r+")
    array[row] = np.asarray(array[row]) / 2
    change_table(
        folder / "regions" / shard, lambda rows: [one for one in rows if one["uri"] != uri]
    )
    maps = [str(p.relative_to(folder)) for p in folder.glob("heatmaps.zarr/distance/c/*/0/0")]
    forge(folder, f"regions/{shard}", *maps)
    assert found_in_files(audit) == []
    result = padim.verify(audit, all_shards=True)
    assert {(one.file, one.image) for one in result.differences} == {
        ("regions", uri),
        ("heatmaps", uri),
    }


@pytest.mark.slow
def test_a_row_that_says_unreadable_instead_of_defect_is_found(audit):
    folder, (shard, uri) = folder_of(audit), spot(audit)
    hidden = {"status": "unreadable", "score": None, "p_value": None}
    change_table(
        folder / "scores" / shard,
        lambda rows: [{**r, **hidden} if r["uri"] == uri else r for r in rows],
    )
    forge(folder, f"scores/{shard}")
    found = padim.verify(audit, all_shards=True).differences
    assert {one.image for one in found} == {None, uri}


@pytest.mark.slow
def test_another_manifest_or_other_settings_are_no_part_of_the_run(audit):
    folder = folder_of(audit)
    head = json.loads((folder / "run.json").read_text())
    asked = {**head["asked"], "score": {**head["asked"]["score"], "pixel_alpha": 0.01}}
    change_head(folder, asked=asked)
    found = padim.verify(audit).differences
    assert [one.file for one in found if "gave the run its id" in one.found] == ["run.json"]


@pytest.mark.slow
def test_images_that_changed_since_are_named_and_are_no_tampering(tmp_path, audit):
    uri = next(
        uri
        for (uri,) in padim.open_scores(audit.workspace).project("uri").fetchall()
        if uri.endswith("b/test/good/00.png")
    )
    path, kept = Path(uri), tmp_path / "kept"
    shutil.copy2(path, kept)
    try:
        draw(path, 999)
        result = padim.verify(audit, all_shards=True)
    finally:
        shutil.copy2(kept, path)
    assert (result.is_same, result.changed, result.rows) == (True, [uri], 38)
    assert result.notes == ["1 image not compared: changed since, or not to be reached"]


@pytest.mark.slow
def test_on_another_processor_results_are_compared_within_a_tolerance(audit):
    folder, (shard, uri) = folder_of(audit), spot(audit)
    listed = json.loads((folder / "files.json").read_text())
    (places,) = listed["scored_on"].values()
    write_list(folder, {**listed, "scored_on": {"a processor of the past": places}})

    def scale(factor: float) -> None:
        change_table(
            folder / "scores" / shard,
            lambda rows: [
                {**r, "score": r["score"] * factor} if r["uri"] == uri else r for r in rows
            ],
        )
        forge(folder, f"scores/{shard}")

    scale(1 + 1e-5)
    result = padim.verify(audit, all_shards=True)
    assert result.is_same, result.differences
    assert "a processor of the past; here" in result.notes[0]
    assert "compared within 0.01 %, regions are not" in result.notes[0]
    scale(1.01)
    (difference,) = padim.verify(audit, all_shards=True).differences
    assert difference.image == uri


@pytest.mark.slow
def test_a_run_of_version_0_4_is_scored_again(audit):
    folder = folder_of(audit)
    (folder / "files.json").unlink()
    for path in folder.glob("scores/*"):
        table = pq.read_table(path)
        metadata = {k: v for k, v in table.schema.metadata.items() if k != b"padim_dist.files"}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    head = json.loads((folder / "run.json").read_text())
    drift = {g: {k: v for k, v in f.items() if k != "digests"} for g, f in head["drift"].items()}
    for name in ("files", "added", "drift"):
        del head[name]
    (folder / "run.json").write_text(json.dumps({**head, "drift": drift}))
    for path in folder.glob("drift/*.json"):
        path.write_text(json.dumps(drift[path.stem]))
    result = padim.verify(audit, all_shards=True)
    assert result.is_same, result.differences
    assert result.files == 0
    assert result.without_digest == len([*folder.glob("scores/*"), *folder.glob("regions/*")])
    assert (result.rows, result.rescored) == (39, result.shards)
    assert result.notes[0].startswith("version 0.4 or earlier")
    padim.compact(audit)  # from now on its tables have digests
    assert padim.verify(audit).files == 2


def test_compacted_files_have_digests_and_changed_ones_are_not_compacted(audit):
    folder = folder_of(audit)
    whole = (folder / "scores/shard-0000001.parquet").read_bytes()
    change_table(folder / "scores/shard-0000001.parquet", lower)
    with pytest.raises(RunError, match=r"shard-0000001\.parquet is not the file that was written"):
        padim.compact(audit, run=folder.name)
    (folder / "scores/shard-0000001.parquet").write_bytes(whole)
    padim.compact(audit, run=folder.name)
    result = padim.verify(audit, all_shards=True)
    assert (result.is_same, result.rows, result.notes) == (True, 39, []), result.differences
    flip(folder / "scores/part-00000.parquet")
    assert found_in_files(audit) == [
        "scores/part-00000.parquet: its digest differs: it is not the file that was written"
    ]


def test_regions_that_a_judgement_adds_have_digests(audit):
    folder = folder_of(audit)
    padim.judge(audit, review=30)
    (added,) = folder.glob("regions/added-*")
    result = padim.verify(audit, all_shards=True)
    assert result.is_same, result.differences
    # A judgement that was killed leaves a file that the head does not name.
    change_head(folder, added={})
    assert found_in_files(audit)[0].startswith(f"regions/{added.name}: no receipt names it")
    padim.judge(audit, review=30)
    assert not added.exists()
    assert found_in_files(audit) == []


def test_a_shard_that_is_scored_again_without_regions_leaves_none(audit):
    folder = folder_of(audit)
    regions = {path.name: path for path in folder.glob("regions/*")}
    shard = next(path for path in sorted(folder.glob("scores/*")) if path.name not in regions)
    shutil.copy(next(iter(regions.values())), folder / "regions" / shard.name)
    shard.unlink()
    padim.score(audit)
    assert found_in_files(audit) == []


def test_a_run_that_was_resumed_has_all_digests(audit):
    folder = folder_of(audit)
    wanted = json.loads((folder / "files.json").read_text())["digests"]
    (folder / "scores/shard-0000002.parquet").unlink()
    (folder / "run.json").write_text("{")
    padim.score(audit)
    found = json.loads((folder / "files.json").read_text())["digests"]
    assert found.keys() == wanted.keys()
    assert found_in_files(audit) == []


def test_without_a_row_that_can_be_compared_nothing_would_be_found(audit, monkeypatch):
    gone = Rescored(4, 4, 0, "a processor", is_exact=True, changed=["a", "b", "c", "d"])
    monkeypatch.setattr("padim_dist.api.integrity.verify._rescore", lambda *_: [gone])
    result = padim.verify(audit)
    assert (result.is_same, result.rescored, result.chances) == (True, 1, [])
    assert result.notes[0] == "nothing was compared with results of today"


def test_a_prune_beside_a_verification_is_no_difference(audit):
    folder = folder_of(audit)

    def prune(event: object) -> None:
        if isinstance(event, Progress) and not (folder / "pruned.json").exists():
            removed = {"heatmaps.zarr": "2026-11-27T02:10:00+00:00"}
            (folder / "pruned.json").write_text(json.dumps({"removed": removed}))
            shutil.rmtree(folder / "heatmaps.zarr")

    with pytest.raises(RunError, match="another command changed run"):
        padim.verify(audit, prune)
    assert padim.verify(audit).is_same


@pytest.mark.slow
def test_what_was_pruned_is_not_missing(audit):
    folder = folder_of(audit)
    shutil.rmtree(folder / "heatmaps.zarr")
    removed = {"heatmaps.zarr": "2026-11-27T02:10:00+00:00"}
    (folder / "pruned.json").write_text(json.dumps({"removed": removed}))
    result = padim.verify(audit, all_shards=True)
    assert result.is_same, result.differences
    assert result.pruned > 8
    assert result.rows == 39


def test_without_a_model_the_digests_are_checked(audit):
    shutil.rmtree(Path(audit.workspace, "models"))
    result = padim.verify(audit)
    assert result.is_same
    assert result.rescored == 0
    assert "no shard was scored again: model" in result.notes[0]
    with pytest.raises(RequestError, match="share is 0; it must be above 0"):
        padim.verify(audit, share=0)


@pytest.mark.slow
def test_a_share_of_the_shards_is_scored_and_its_chance_is_that_of_drawing(scored):
    result = padim.verify(scored, share=0.2)
    assert result.rescored == -(-result.shards // 5)
    random, shards, drawn = np.random.default_rng(0), 50, 5
    hits = [min(random.permutation(shards)[:drawn]) < 10 for _ in range(4000)]
    assert abs(np.mean(hits) - chance(shards, drawn, 10)) < 0.03
