"""Commands over a workspace with a damaged file: it is named, and the other runs go on."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.errors import DamagedFileError, RequestError
from tests.api.workspace import made_config, put_run, region_rows, score_rows

A, B, C = (letter * 16 for letter in "abc")
COUNT = "SELECT run_id, count(*) FROM scores GROUP BY 1 ORDER BY 1"


@pytest.fixture
def config(tmp_path) -> Config:
    config = made_config(str(tmp_path / "audit"))
    for turn, run in enumerate((A, B, C), 1):
        rows = score_rows(run, 40)
        put_run(config, run, rows, regions=region_rows(rows), turn=turn, settings=[])
    return config


def test_a_garbage_head(config, caplog):
    head = Path(config.workspace, "runs", C, "run.json")
    head.write_bytes(b"\x00garbage")
    assert padim.query(config, sql=COUNT).rows == [[A, 40], [B, 40]]
    assert padim.top(config).run_id == B, "the newest that can be read"
    assert caplog.text.count(f"{head} is damaged: it is not JSON") == 2
    with pytest.raises(
        DamagedFileError, match=rf"^{head} is damaged.*run 'padim-dist score' again"
    ):
        padim.top(config, run=C)
    with pytest.raises(RequestError, match="has 0 runs whose id begins with 'd'"):
        padim.top(config, run="d")


@pytest.mark.parametrize("table", ["scores", "regions"])
@pytest.mark.parametrize("content", [b"", b"PAR1 but no more", None])
def test_a_cut_table(config, caplog, table, content):
    file = sorted(Path(config.workspace, "runs", B, table).iterdir())[-1]
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    assert padim.query(config, sql=COUNT).rows == [[A, 40], [C, 40]]
    assert padim.query(config, sql=COUNT.replace("scores", "regions")).rows[0][0] == A
    assert f"{file} is damaged: it is not Parquet" in caplog.text
    with pytest.raises(DamagedFileError, match=rf"^{file} is damaged"):
        padim.query(config, sql=COUNT, run=B)
    if table == "scores":
        with pytest.raises(DamagedFileError, match=rf"^{file} is damaged"):
            padim.compare(config, run_a=A, run_b=B)


def test_a_damaged_receipt_of_a_compaction(config, caplog):
    padim.compact(config)
    file = Path(config.workspace, "runs", B, "compact.json")
    file.write_text("{}")
    assert padim.query(config, sql=COUNT).rows == [[A, 40], [C, 40]]
    assert f"{file} is damaged: places: Field required" in caplog.text
    part = Path(config.workspace, "runs", C, "scores/part-00000.parquet")
    part.unlink()
    assert padim.query(config, sql=COUNT).rows == [[A, 40]]
    assert f"{part} is damaged: it is missing" in caplog.text


def test_when_no_run_is_left_it_is_an_error(config):
    for run in (A, B, C):
        Path(config.workspace, "runs", run, "scores/shard-0000000.parquet").write_bytes(b"")
    with pytest.raises(DamagedFileError, match=r"shard-0000000.parquet is damaged"):
        padim.query(config, sql=COUNT)


def test_a_damaged_promotion_and_history(config, caplog):
    workspace = Path(config.workspace)
    for name in ("promotions/00001.json", "snapshots/x/00001.json"):
        (workspace / name).parent.mkdir(parents=True)
        (workspace / name).write_text("[]")
    assert padim.query(config, sql=COUNT).rows[0] == [A, 40]
    assert padim.models(config).promotions == []
    assert "promotions/00001.json is damaged: it is no JSON object but a list" in caplog.text
    with pytest.raises(DamagedFileError, match=r"00001.json is damaged.*promote a model again"):
        padim.score(config, model="promoted")


@pytest.fixture
def audit(tiny_audit, tmp_path, caplog) -> Config:
    caplog.set_level(logging.WARNING)  # the cluster of the tests has silenced the handlers
    shutil.copytree(tiny_audit.workspace, tmp_path / "copy")
    return tiny_audit.model_copy(update={"workspace": str(tmp_path / "copy")})


def test_a_run_whose_head_is_damaged_is_finished_without_scoring_again(audit, caplog):
    before = padim.query(audit, sql="FROM scores ORDER BY image_id").rows
    (head,) = Path(audit.workspace).glob("runs/*/run.json")
    head.write_bytes(head.read_bytes()[:100])
    result = padim.score(audit)
    assert (result.scored, result.images) == (0, len(before))
    assert f"{head} is damaged: it is not JSON" in caplog.text
    assert padim.query(audit, sql="FROM scores ORDER BY image_id").rows == before


def test_a_damaged_head_of_a_run_without_its_heatmaps_loses_no_regions(audit):
    padim.judge(audit, review=30)
    padim.compact(audit)
    (head,) = Path(audit.workspace).glob("runs/*/run.json")
    folder, files = head.parent, json.loads(head.read_text())["files"]
    shutil.rmtree(folder / "heatmaps.zarr")
    removed = {"heatmaps.zarr": "2026-11-27T02:10:00+00:00"}
    (folder / "pruned.json").write_text(json.dumps({"removed": removed}))
    before = padim.query(audit, sql="FROM regions ORDER BY image_id, region").rows
    head.write_text("{")
    padim.score(audit)
    assert padim.judge(audit, review=30).notes == []
    assert padim.query(audit, sql="FROM regions ORDER BY image_id, region").rows == before
    assert len(before) > 20
    assert not (folder / "heatmaps.zarr").exists()
    again = json.loads(head.read_text())
    (added,) = folder.glob("regions/added-*")
    assert [*again["added"]] == [f"regions/{added.name}"]
    assert again["files"] == files


def test_a_report_without_metrics_that_can_be_read(audit, caplog):
    padim.evaluate(audit)
    (metrics,) = Path(audit.workspace).glob("runs/*/metrics.json")
    metrics.write_text('{"groups": [], "curves": 3}')
    assert Path(padim.report(audit).report).stat().st_size > 10_000
    assert f"{metrics} is damaged: groups: Input should be a valid" in caplog.text


def test_a_damaged_part_is_embedded_again(audit, caplog):
    """Also with its model removed, as the message about a damaged model says."""
    (model,) = Path(audit.workspace).glob("models/*.zarr")
    receipt, *_ = sorted(Path(audit.workspace).glob("moments/*/*/*.json"))
    shutil.rmtree(model)
    receipt.write_text("{}")
    result = padim.fit(audit)
    assert 0 < result.embedded < result.images
    assert model.name == f"{result.model_id}.zarr"
    assert f"{receipt} is damaged" in caplog.text
