"""Compaction: the same rows in fewer files, also after crashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.errors import HeldError, RequestError, RunError
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.runs import compaction
from padim_dist.store.runs.rows import SCORES_SCHEMA
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace
from tests.api.workspace import made_config, put_run, region_rows, score_rows

RUN = "a" * 16


class KilledError(Exception):
    """Simulates a process that is killed."""


@pytest.fixture
def config(tmp_path):
    config = made_config(str(tmp_path / "audit"))
    rows = score_rows(RUN, 95)
    put_run(config, RUN, rows, regions=region_rows(rows))
    return config


def names(config, table: str) -> list[str]:
    return sorted(path.name for path in Path(config.workspace, "runs", RUN, table).iterdir())


def tables(config) -> tuple[list[tuple], list[tuple]]:
    """Return all rows of both tables, as readers see them."""
    run = f"{config.workspace}/runs/{RUN}"
    scores = padim.open_scores(run).order("image_id").fetchall()
    regions = padim.open_regions(run).order("image_id, region").fetchall()
    database = padim.connect(config)
    assert database.sql("SELECT * EXCLUDE night FROM scores ORDER BY image_id").fetchall() == scores
    own = "SELECT * EXCLUDE night FROM regions ORDER BY image_id, region"
    assert database.sql(own).fetchall() == regions
    return scores, regions


def test_few_files_of_the_same_rows(config, monkeypatch):
    monkeypatch.setattr(compaction, "ROWS_A_GROUP", 25)
    monkeypatch.setattr(compaction, "GROUPS_A_FILE", 3)
    before = tables(config)
    folder = Path(config.workspace, "runs", RUN, "scores")
    shards = [pq.read_table(path) for path in sorted(folder.iterdir())]
    removed = len(shards) + len(names(config, "regions"))
    result = padim.compact(config)
    assert (result.runs, result.rows, result.files, result.files_removed) == (1, 95, 3, removed)
    assert names(config, "scores") == ["part-00000.parquet", "part-00001.parquet"]
    parts = [pq.ParquetFile(folder / name) for name in names(config, "scores")]
    sizes = [
        part.metadata.row_group(i).num_rows for part in parts for i in range(part.num_row_groups)
    ]
    assert sizes == [20, 20, 20, 20, 15]  # whole shards
    assert all(part.schema_arrow.equals(SCORES_SCHEMA, check_metadata=True) for part in parts)
    assert all(b"padim_dist.scores" in part.metadata.metadata for part in parts)
    assert pa.concat_tables(part.read() for part in parts).equals(pa.concat_tables(shards))
    assert tables(config) == before
    again = padim.compact(config)
    assert (again.runs, again.before, again.files) == (0, 1, 0)


def test_shards_are_read_one_after_the_other(config, monkeypatch):
    monkeypatch.setattr(compaction, "ROWS_A_GROUP", 25)
    scores = Run(Workspace(Folder(config.workspace)), RUN).scores
    before = [(place, table.to_pylist()) for place, table in scores.read_shards()]
    assert [place for place, _ in before] == list(range(10))
    padim.compact(config)
    after = [(place, table.to_pylist()) for place, table in scores.read_shards()]
    assert after == before
    assert scores.finished() == set(range(10))


@pytest.mark.parametrize(
    "step", ["first part", "regions", "receipt", "removal", "half the removal"]
)
def test_after_a_crash_at_any_step_the_next_call_finishes(config, monkeypatch, step):
    before = tables(config)
    whole = compaction.write_parts, compaction.remove_files

    def write_parts(table, known):
        if step == "regions" and table.name == "regions":
            raise KilledError
        made = whole[0](table, known)
        if step == "first part":
            raise KilledError
        return made

    def remove_files(workspace, paths):
        if step == "half the removal":
            whole[1](workspace, list(paths)[::2])
        raise KilledError

    def put_receipt(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "write_parts", write_parts)
        if step == "receipt":
            patch.setattr(compaction, "put_receipt", put_receipt)
        if "removal" in step:
            patch.setattr(compaction, "remove_files", remove_files)
        with pytest.raises(KilledError):
            padim.compact(config)
    assert tables(config) == before
    assert Run(Workspace(Folder(config.workspace)), RUN).scores.finished() == set(range(10))
    assert padim.compact(config).runs == 1
    assert tables(config) == before
    assert names(config, "scores") == names(config, "regions") == ["part-00000.parquet"]


def test_no_file_is_removed_if_rows_changed(config, monkeypatch):
    before, files = tables(config), names(config, "scores")
    put = Folder.put

    def damaged(self, path, data):
        if "part-" in path:
            table = pq.read_table(pa.BufferReader(data))
            scores = table["score"].to_numpy().copy()
            scores[3] += 1
            place = table.column_names.index("score")
            table = table.set_column(
                place, "score", pa.array(scores, pa.float32(), from_pandas=True)
            )
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            data = sink.getvalue().to_pybytes()
        put(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "put", damaged)
        with pytest.raises(RunError, match="Nothing was removed"):
            padim.compact(config)
    assert set(files) <= set(names(config, "scores"))
    assert tables(config) == before


def test_unfinished_and_locked_runs_are_not_compacted(config):
    put_run(config, "b" * 16, score_rows("b" * 16, 20), finished=False)
    with pytest.raises(RequestError, match="half done"):
        padim.compact(config, run="b")
    with (
        hold(Workspace(Folder(config.workspace)), f"runs/{RUN}"),
        pytest.raises(HeldError, match="has been at work"),
    ):
        padim.compact(config, run="a")
    result = padim.compact(config)
    assert (result.runs, result.left) == (1, ["b" * 16])
    with pytest.raises(RequestError, match="0 runs whose id begins with 'zz'"):
        padim.compact(config, run="zz")


def test_an_older_run_gets_the_current_columns(config):
    old = score_rows("c" * 16, 25, seed=3)
    put_run(config, "c" * 16, old, lacking=["p_value", "flagged", "p_extrapolated"])
    assert padim.compact(config, run="c").rows == 25
    run = f"{config.workspace}/runs/{'c' * 16}"
    found = padim.open_scores(run).project("image_id, score, p_value").order("image_id").fetchall()
    assert found == sorted((row["image_id"], row["score"], None) for row in old)


def test_a_compacted_run_works_as_before(tiny_audit, tmp_path):
    """score, evaluate, score --new and readers, on a real run before and after."""
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    config = tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    figures = padim.evaluate(config)
    maps = padim.open_heatmaps(config.workspace)
    scores = padim.open_scores(config.workspace).order("image_id").fetchall()
    statuses = padim.score(config).statuses
    (run,) = (tmp_path / "audit/runs").iterdir()
    assert len(list((run / "scores").iterdir())) > 5
    assert padim.compact(config).files == len(list((run / "scores").iterdir())) == 1
    again = padim.score(config)
    assert (again.scored, again.resumed, again.statuses) == (0, 39, statuses)
    assert padim.evaluate(config) == figures
    assert padim.score(config, new=True).images == 0
    assert padim.open_scores(config.workspace).order("image_id").fetchall() == scores
    after = padim.open_heatmaps(config.workspace)
    assert list(after.image_id.values) == list(maps.image_id.values)
    assert np.array_equal(after.distance.values, maps.distance.values)
