"""The workspace as a database, on runs with known rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pytest

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.sql.views import VIEWS
from padim_dist.errors import RequestError
from tests.api.workspace import made_config, put_run, region_rows, score_rows
from tests.s3.moto import moto_server


def ask(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple]:
    return database.sql(sql).fetchall()


@pytest.fixture
def config(tmp_path):
    return made_config(str(tmp_path / "audit"))


def test_runs_of_all_versions_are_one_table(config):
    """An older run has no verdict columns: they are null, in whatever order runs are written."""
    new, old = score_rows("a" * 16, 30), score_rows("b" * 16, 20, seed=1)
    put_run(config, "a" * 16, new, regions=region_rows(new))
    put_run(config, "b" * 16, old, lacking=["p_value", "flagged", "p_extrapolated"])
    database = padim.connect(config)
    rows = ask(database, "SELECT run_id, image_id, score, p_value, flagged FROM scores")
    wanted = [(r["run_id"], r["image_id"], r["score"], r["p_value"], r["flagged"]) for r in new]
    wanted += [(r["run_id"], r["image_id"], r["score"], None, None) for r in old]
    assert sorted(rows, key=str) == sorted(wanted, key=str)
    wanted = [(r["image_id"], r["region"], r["area"]) for r in region_rows(new)]
    assert sorted(ask(database, "SELECT image_id, region, area FROM regions")) == sorted(wanted)
    assert ask(database, "SELECT count(*) FROM runs WHERE finished_at IS NOT NULL") == [(2,)]


def test_events_join_flagged_frames_of_a_film(config):
    """By hand: gaps of up to a second, or of two steps, end no event."""
    flagged = {
        "a.mp4": [0.2, 0.3, 1.3, 2.4, 3.0],  # a step is 0.1 s: 2.4 is more than 1 s later
        "b.MKV": [10.0, 16.0, 25.0],  # a step is 3 s
    }
    seconds = {"a.mp4": np.arange(40) / 10, "b.MKV": np.arange(10.0, 40.0, 3.0)}
    rows = []
    template = score_rows("a" * 16, 60)
    for film, times in seconds.items():
        for second in times.tolist():
            row = template[len(rows)] | {"uri": f"/archive/a/{film}", "group": "a", "shard": 0}
            row |= {"member": f"t={second:.3f}", "image_id": f"{len(rows):016x}"}
            is_flagged = second in flagged[film]
            row |= {"flagged": is_flagged, "status": "scored", "p_value": [0.5, 0.001][is_flagged]}
            rows.append(row | {"score": 50.0 + second if is_flagged else 1.0})
    rows.append(template[-2] | {"member": "t=1.000", "uri": "/archive/a/x.tar", "flagged": True})
    rows.append(template[-1] | {"member": "(damaged tail)", "uri": "/archive/a/a.mp4"})
    put_run(config, "a" * 16, rows)
    columns = "uri, event, starts, ends, peak, score, frames, len(image_ids)"
    assert ask(padim.connect(config), f"SELECT {columns} FROM events ORDER BY uri, event") == [
        ("/archive/a/a.mp4", 1, 0.2, 1.3, 1.3, pytest.approx(51.3), 3, 3),
        ("/archive/a/a.mp4", 2, 2.4, 3.0, 3.0, 53.0, 2, 2),
        ("/archive/a/b.MKV", 1, 10.0, 16.0, 16.0, 66.0, 2, 2),
        ("/archive/a/b.MKV", 2, 25.0, 25.0, 25.0, 75.0, 1, 1),
    ]


def test_old_runs_have_every_column(config):
    put_run(config, "b" * 16, score_rows("b" * 16, 20), lacking=["p_value", "flagged"])
    database = padim.connect(config)
    found = dict(ask(database, "SELECT column_name, column_type FROM (DESCRIBE scores)"))
    assert found["p_value"] == "DOUBLE"
    assert found["flagged"] == "BOOLEAN"
    assert ask(database, "SELECT count(*) FROM scores WHERE flagged IS NULL") == [(20,)]


def test_an_empty_workspace_has_typed_views(config):
    database = padim.connect(config)
    for view in VIEWS:
        assert ask(database, f"SELECT count(*) FROM {view}") == [(0,)]
    found = dict(ask(database, "SELECT column_name, column_type FROM (DESCRIBE regions)"))
    assert found["area"] == "BIGINT"
    assert found["peak"] == "FLOAT"
    found = dict(ask(database, "SELECT column_name, column_type FROM (DESCRIBE runs)"))
    assert found["asked_at"] == "TIMESTAMP WITH TIME ZONE"


def test_the_cutoff_of_a_false_discovery_rate_decides(config):
    """The files flag images at alpha; the cutoff in the run's head flags fewer of them."""
    rows = score_rows("a" * 16, 100)
    regions = region_rows(rows)
    fdr = {"rule": "fdr", "asked": 0.1, "alpha": 0.1}
    cutoff = sorted(r["p_value"] for r in rows if r["p_value"])[4]
    put_run(config, "a" * 16, rows, regions=regions, alarms=fdr, cutoff=cutoff)
    plain = {"rule": "alpha", "asked": 0.1, "alpha": 0.1}
    others = score_rows("b" * 16, 100)
    put_run(config, "b" * 16, others, regions=region_rows(others), alarms=plain)
    database = padim.connect(config)
    flagged = "SELECT count(*) FROM scores WHERE flagged AND run_id = '{}'"
    assert ask(database, flagged.format("a" * 16)) == [(5,)]
    assert ask(database, flagged.format("b" * 16)) == [(10,)]
    kept = f"SELECT count(DISTINCT image_id) FROM regions WHERE run_id = '{'a' * 16}'"
    assert ask(database, kept) == [(5,)]
    assert ask(database, kept.replace("a" * 16, "b" * 16)) == [(10,)]
    run = f"{config.workspace}/runs/{'a' * 16}"
    assert padim.open_scores(run).filter("flagged").aggregate("count(*)").fetchall() == [(5,)]
    # First a cutoff that flags no image, then an unfinished run without a cutoff.
    put_run(config, "a" * 16, rows, alarms=fdr, cutoff=None)
    unreadable = 1
    values = (
        f"SELECT flagged, count(*) FROM scores WHERE run_id = '{'a' * 16}' GROUP BY 1 ORDER BY 1"
    )
    assert ask(padim.connect(config), values) == [(False, 100 - unreadable), (None, unreadable)]
    put_run(config, "a" * 16, rows, finished=False, alarms=fdr)
    assert ask(padim.connect(config), values) == [], "only finished runs"
    assert ask(padim.connect(config, run="a"), values) == [(None, 100)]


def scanned(database: duckdb.DuckDBPyConnection, sql: str, path: Path) -> dict:
    """Return DuckDB's profile of a query."""
    database.execute("PRAGMA enable_profiling = 'json'")
    database.execute(f"PRAGMA profiling_output = '{path}'")
    database.execute(sql).fetchall()
    database.execute("PRAGMA disable_profiling")
    return json.loads(path.read_text())


FDR = {"alarms": {"rule": "fdr", "asked": 0.1, "alpha": 0.1}, "cutoff": 0.01}


@pytest.mark.parametrize("alarms", [{}, FDR])
def test_filters_and_columns_are_pushed_down(config, tmp_path, alarms):
    """One of ten shards is read, and only the selected columns."""
    rows = score_rows("a" * 16, 100)
    for row in rows:
        row["score"] = 100.0 * row["shard"] + row["peak_y"] if row["score"] else None
    put_run(config, "a" * 16, rows, **alarms)
    put_run(config, "b" * 16, score_rows("b" * 16, 20))
    database = padim.connect(config)
    for sql, groups in [
        ("SELECT uri FROM scores WHERE score > 850", 1),
        (f"SELECT uri FROM scores WHERE run_id = '{'b' * 16}'", 2),
        ("SELECT uri FROM scores WHERE run_id = 'none'", 0),
    ]:
        profile = scanned(database, sql, tmp_path / "profile.json")
        assert profile["query"]["total_row_groups_scanned"] == groups
        assert profile["query"]["total_rows_scanned"] <= groups * 10
    everything = scanned(database, "FROM scores", tmp_path / "profile.json")
    one = scanned(database, "SELECT score FROM scores", tmp_path / "profile.json")
    assert everything["query"]["total_row_groups_scanned"] == 12
    assert _projections(one) == ["score"]


def _projections(profile: dict) -> list[str]:
    """Yield the columns that the scans of a profile read."""
    found: list[str] = []
    steps = list(profile["operator"])
    while steps:
        step = steps.pop()
        steps += step.get("children", [])
        if step["type"] == "TABLE_SCAN":
            names = step["extra_info"]["Projections"]
            found += [names] if isinstance(names, str) else names
    return found


def test_models_and_images(tmp_path, tiny_audit):
    """The models and the index of a workspace that was fitted."""
    database = padim.connect(tiny_audit)
    (entry,) = padim.models(tiny_audit).models
    row = ask(database, "SELECT model_id, state, backbone, groups, images, channels FROM models")
    model = padim.open_model(tiny_audit.workspace)
    depth = model.info.embedding.shape.depth
    assert row == [(entry.model_id, "candidate", entry.backbone, entry.groups, entry.images, depth)]
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    copied = tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    padim.promote(copied, model=entry.model_id, note="")
    assert ask(padim.connect(copied), "SELECT state FROM models") == [("promoted",)]
    joined = (
        "SELECT count(*) FROM images JOIN scores USING (image_id) WHERE images.uri = scores.uri"
    )
    assert ask(database, joined) == ask(database, "SELECT count(*) FROM images") == [(39,)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # open connections of the client
def test_the_same_in_s3(tmp_path):
    rows = score_rows("a" * 16, 30)
    local = made_config(str(tmp_path / "audit"))
    put_run(local, "a" * 16, rows, regions=region_rows(rows))
    with moto_server() as (host, port):
        options = {"s3": {"endpoint_url": f"http://{host}:{port}"}}
        fsspec.filesystem("s3", **options["s3"]).mkdir("views")
        there = made_config("s3://views/audit", storage_options=options)
        put_run(there, "a" * 16, rows, regions=region_rows(rows))
        databases = padim.connect(local), padim.connect(there)
        for sql in ("FROM scores ORDER BY ALL", "FROM regions ORDER BY ALL", "FROM runs"):
            assert ask(databases[0], sql) == ask(databases[1], sql)
        secrets = ask(
            databases[1], "SELECT view_name FROM duckdb_views() WHERE sql ILIKE '%secret%'"
        )
        assert secrets == []
        assert ask(
            databases[1],
            "SELECT count(*) FROM duckdb_extensions() WHERE installed AND "
            "install_mode <> 'STATICALLY_LINKED'",
        ) == [(0,)]


def test_readers_of_regions(config):
    rows = score_rows("a" * 16, 30)
    put_run(config, "a" * 16, rows, regions=region_rows(rows))
    put_run(config, "c" * 16, score_rows("c" * 16, 20))
    found = padim.open_regions(f"{config.workspace}/runs/{'a' * 16}")
    assert found.aggregate("count(*)").fetchall() == [(len(region_rows(rows)),)]
    none = padim.open_regions(f"{config.workspace}/runs/{'c' * 16}")
    assert none.fetchall() == []
    assert none.columns == found.columns
    with pytest.raises(RequestError, match="neither a run nor a workspace"):
        padim.open_regions(f"{config.workspace}/runs")


def test_the_latest_row_of_each_image(config):
    """An image that three runs have counts once; a row that is not settled hides no earlier one."""
    archives = {name: {"archive": {"url": name}} for name in ("/archive", "/other")}
    first, second = score_rows("a" * 16, 40), score_rows("b" * 16, 30, seed=1)
    second[3] |= {"status": "timeout", "score": None, "p_value": None, "flagged": None}
    put_run(config, "a" * 16, first, asked=archives["/archive"], turn=1)
    put_run(config, "b" * 16, second, asked=archives["/archive"], turn=2)
    elsewhere = score_rows("c" * 16, 10)
    put_run(config, "c" * 16, elsewhere, asked=archives["/other"], turn=3)
    database = padim.connect(config)
    newest = ask(database, "SELECT run_id, count(*) FROM latest GROUP BY 1 ORDER BY 1")
    assert newest == [("a" * 16, 11), ("b" * 16, 29), ("c" * 16, 10)]
    assert ask(database, "SELECT count(*) FROM scores") == [(80,)]
    columns = 'archive, "group", images, scored, flagged'
    groups = ask(database, f"SELECT {columns} FROM groups ORDER BY 1, 2")
    counts = "count(*), count(score), count(*) FILTER (latest.flagged)"
    wanted = f"""SELECT r.archive, "group", {counts} FROM latest JOIN runs r USING (run_id)
        GROUP BY ALL ORDER BY 1, 2"""
    assert groups == ask(database, wanted)
    assert len(groups) == 3


def test_a_run_without_an_archive_in_its_head(config):
    """Version 0.1 kept no settings: the manifest says which archive it was."""
    first, second = score_rows("a" * 16, 20), score_rows("b" * 16, 20, seed=1)
    put_run(config, "a" * 16, first, lacking=["p_value", "flagged"])
    put_run(config, "b" * 16, second, asked={"archive": {"url": "/archive"}}, turn=1)
    head = {"settings": {"url": "/archive"}, "ignored": {}, "created_at": "2026-01-01T00:00:00"}
    workspace = workspace_of(config)
    workspace.folder.put_json(f"{workspace.manifest('0' * 16)}/manifest.json", head)
    database = padim.connect(config)
    assert ask(database, "SELECT count(*), any_value(run_id) FROM latest") == [(20, "b" * 16)]


def test_a_damaged_table_of_normal_images_is_left_out(tmp_path, tiny_audit, caplog):
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    copied = tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    tables = sorted(Path(copied.workspace).rglob(".normals/*.parquet"))
    assert len(tables) == 2
    tables[0].write_bytes(tables[0].read_bytes()[:50])
    database = padim.connect(copied)
    assert "is damaged" in caplog.text
    assert ask(database, 'SELECT "group", count(*) FROM normals GROUP BY 1') == [("b", 10)]
    assert ask(database, "SELECT count(*) FROM latest") == [(39,)]
