"""query, top, compare and export on runs with known rows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.cli.app import app
from padim_dist.errors import RequestError
from tests.api.workspace import config_file, made_config, put_run, region_rows, score_rows

A, B = "a" * 16, "b" * 16
VERDICTS = ["p_value", "flagged", "p_extrapolated"]


@pytest.fixture
def config(tmp_path):
    return made_config(str(tmp_path / "audit"))


@pytest.fixture
def rows(config):
    rows = score_rows(A, 250)
    put_run(
        config,
        A,
        rows,
        regions=region_rows(rows),
        alarms={"rule": "alpha", "asked": 0.1, "alpha": 0.1},
    )
    return rows


def test_a_table_has_a_hundred_rows_at_most(config, rows):
    few = padim.query(config, sql="SELECT image_id, score FROM scores ORDER BY uri LIMIT 3")
    assert few.columns == ["image_id", "score"]
    assert few.rows == [[row["image_id"], row["score"]] for row in rows[:3]]
    assert not few.more
    many = padim.query(config, sql="FROM scores")
    assert (len(many.rows), many.more) == (100, True)


def test_files_have_all_rows(config, rows, tmp_path):
    sql = 'SELECT image_id, score, "error", started_at FROM scores JOIN runs USING (run_id)'
    sql += " ORDER BY uri"
    in_order = sorted(rows, key=lambda row: row["uri"])
    wanted = [(row["image_id"], row["score"], row["error"]) for row in in_order]
    files = {name: str(tmp_path / f"all.{name}") for name in ("csv", "json", "parquet")}
    for name, file in files.items():
        assert padim.query(config, sql=sql, format=name, out=file).written == 250
    found = list(csv.DictReader(Path(files["csv"]).read_text().splitlines()))
    floats = [float(row["score"]) if row["score"] else None for row in found]
    assert [*zip([r["image_id"] for r in found], floats, strict=True)] == [w[:2] for w in wanted]
    found = json.loads(Path(files["json"]).read_text())
    assert [(row["image_id"], row["score"], row["error"]) for row in found] == wanted
    assert found[0]["started_at"] == "2026-01-01T00:00:00+00:00"
    found = pq.read_table(files["parquet"]).to_pylist()
    assert [(row["image_id"], row["score"], row["error"]) for row in found] == wanted


WRONG = [
    ("COPY scores TO '{tmp}/x.csv'", "COPY is refused"),
    ("EXPLAIN ANALYZE COPY scores TO '{tmp}/x.csv'", "COPY is refused"),
    ("/* why */ EXPLAIN ANALYZE COPY scores TO '{tmp}/x.csv'", "COPY is refused"),
    ("EXPLAIN (ANALYZE, FORMAT json) COPY scores TO '{tmp}/x.csv'", "refused"),
    ("INSERT INTO runs SELECT * FROM runs", "INSERT is refused"),
    ("DELETE FROM runs", "DELETE is refused"),
    ("CREATE TABLE x AS FROM runs", "CREATE is refused"),
    ("DROP VIEW scores", "DROP is refused"),
    ("ATTACH '{tmp}/x.db'", "ATTACH is refused"),
    ("EXPORT DATABASE '{tmp}/x'", "EXPORT is refused"),
    ("SET threads = 1", "SET is refused"),
    ("INSTALL httpfs", "LOAD is refused"),
    ("SELECT 1; DROP VIEW scores", "one statement at a time: found 2"),
    ("", "one statement at a time: found 0"),
    ("SELEC 1", "syntax error"),
    ("FROM score", "scores: image_id, uri, member"),
    ("SELECT skore FROM scores", "scores: image_id, uri, member"),
]


@pytest.mark.parametrize(("sql", "message"), WRONG, ids=lambda v: v[:20])
def test_a_query_only_reads(config, rows, tmp_path, sql, message):
    with pytest.raises(RequestError, match=message.replace("(", r"\(")):
        padim.query(config, sql=sql.format(tmp=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"audit"}


READS = [
    "EXPLAIN FROM scores",
    "EXPLAIN ANALYZE FROM scores",
    "SHOW TABLES",
    "DESCRIBE scores",
    "SUMMARIZE scores",
    "VALUES (1)",
    "WITH a AS (FROM scores) FROM a",
]


@pytest.mark.parametrize("sql", READS)
def test_read_only_statements_are_allowed(config, rows, sql):
    assert padim.query(config, sql=sql).rows


def test_wrong_formats_and_files_are_refused(config, rows, tmp_path):
    for more, message in [
        ({"format": "xml"}, "none of table, csv, json, parquet"),
        ({"format": "parquet"}, "--out FILE"),
        ({"out": str(tmp_path / "x")}, "a table is for the screen"),
        ({"format": "csv", "out": str(tmp_path / "no/x")}, "does not exist"),
    ]:
        with pytest.raises(RequestError, match=message):
            padim.query(config, sql="FROM runs", **more)


def test_a_failed_query_leaves_no_file(config, rows, tmp_path):
    """The query fails after some rows were read."""
    bad = (
        "SELECT CASE WHEN uri LIKE '%0240%' THEN error('bad') ELSE uri END FROM scores ORDER BY uri"
    )
    with pytest.raises(RequestError, match="bad"):
        padim.query(config, sql=bad, format="csv", out=str(tmp_path / "x.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"audit"}


def test_the_top_is_by_p_value_then_score(config, rows):
    scored = [row for row in rows if row["status"] == "scored"]
    wanted = sorted(scored, key=lambda row: (row["p_value"], -row["score"]))
    result = padim.top(config, n=30)
    assert [a.image_id for a in result.anomalies] == [row["image_id"] for row in wanted[:30]]
    assert (result.scored, result.flagged, result.notes) == (249, 25, [])
    assert result.anomalies[0].image == wanted[0]["uri"].removeprefix("/archive/")
    of_b = padim.top(config, n=500, group="b", flagged=True, run="aaa")
    wanted = [row["image_id"] for row in wanted if row["group"] == "b" and row["flagged"]]
    assert [a.image_id for a in of_b.anomalies] == wanted
    with pytest.raises(RequestError, match="no group 'c'; it has a, b"):
        padim.top(config, group="c")
    with pytest.raises(RequestError, match="1 or more; found 0"):
        padim.top(config, n=0)


def test_the_top_without_calibration_is_by_score(config):
    rows = score_rows(A, 50)
    put_run(config, A, rows, finished=False, lacking=VERDICTS)
    result = padim.top(config, n=5, run=A)
    highest = sorted((row for row in rows if row["score"]), key=lambda row: -row["score"])
    assert [a.image_id for a in result.anomalies] == [row["image_id"] for row in highest[:5]]
    assert result.flagged is None
    assert "half done" in result.notes[0]
    assert "no calibration" in result.notes[1]
    with pytest.raises(RequestError, match="no calibration"):
        padim.top(config, run=A, flagged=True)


def test_runs_by_prefixes_of_their_ids(config):
    with pytest.raises(RequestError, match="has no finished run; 'padim-dist score' makes one"):
        padim.top(config)
    for run_id in ("ab" * 8, "ac" * 8):
        put_run(config, run_id, score_rows(run_id, 10))
    assert padim.top(config, run="ac").run_id == "ac" * 8
    with pytest.raises(RequestError, match="2 runs whose id begins with 'a'"):
        padim.top(config, run="a")
    with pytest.raises(RequestError, match="0 runs whose id begins with 'zz'"):
        padim.top(config, run="zz")


def test_the_default_is_the_newest_finished_run(config):
    """A newer, half-done run is used only if its id is given; a note says so."""
    old, half = score_rows(A, 40), score_rows(B, 20, seed=1)
    put_run(config, B, half, finished=False, asked_at="2026-01-02T00:00:00+00:00")
    with pytest.raises(RequestError, match=f"no finished run, only {B}, which is half done"):
        padim.top(config)
    put_run(config, A, old)
    assert padim.top(config).run_id == A
    assert padim.top(config).notes == []
    assert padim.query(config, sql="SELECT run_id, count(*) FROM scores GROUP BY 1").rows == [
        [A, 40]
    ]
    assert padim.query(config, sql="SELECT count(*) FROM runs").rows == [[2]]
    assert len(padim.open_scores(config.workspace)) == 40
    note = f"run {B} is half done: images that are not scored yet are missing"
    found = padim.query(
        config, sql="SELECT DISTINCT run_id, count(*) FROM scores GROUP BY 1", run="b"
    )
    assert (found.rows, found.notes) == ([[B, 20]], [note])
    assert padim.top(config, run="b").notes[0] == note
    assert len(padim.open_scores(f"{config.workspace}/runs/{B}")) == 20


def test_zero_flagged(config):
    rows = [{**row, "flagged": False if row["score"] else None} for row in score_rows(A, 20)]
    put_run(config, A, rows, alarms={"rule": "alpha", "asked": 0.001, "alpha": 0.001})
    result = padim.top(config, flagged=True)
    assert result.anomalies == []
    assert result.notes == [
        "none of 19 scored images is flagged (target: 0.1 % of normal images): the lowest p-value "
        "is 0.048"
    ]


def test_two_runs_compared(config, rows):
    others = [row for row in score_rows(B, 270, seed=5, model_id="n" * 16) if row["shard"] != 3]
    for row in others:
        row["shard"] -= row["shard"] > 3
        row["score"] = None if row["score"] is None else round(row["score"])  # ties
    put_run(config, B, others)
    result = padim.compare(config, run_a="a", run_b="b")
    first = {row["uri"]: row for row in rows if row["score"] is not None}
    second = {row["uri"]: row for row in others if row["score"] is not None}
    both = sorted(first.keys() & second.keys())
    assert (result.both, result.only_a, result.only_b) == (
        len(both), len(first) - len(both), len(second) - len(both)
    )  # fmt: skip
    scores = [[run[uri]["score"] for uri in both] for run in (first, second)]
    assert result.spearman == pytest.approx(spearmanr(*scores).statistic, abs=1e-12)
    new = [uri for uri in both if second[uri]["flagged"] and not first[uri]["flagged"]]
    gone = [uri for uri in both if first[uri]["flagged"] and not second[uri]["flagged"]]
    assert (result.new, result.gone) == (len(new), len(gone))
    listed = [turned.image for turned in result.new_anomalies]
    assert listed == [
        uri.removeprefix("/archive/")
        for uri in sorted(new, key=lambda u: second[u]["p_value"])[:20]
    ]
    assert "different models" in result.notes[0]
    assert {median.group: median.images for median in result.medians} == Counter(
        first[uri]["group"] for uri in both
    )
    moves = [abs(moved.rank_a - moved.rank_b) for moved in result.moved]
    assert len(moves) == 20
    assert moves == sorted(moves, reverse=True)
    with pytest.raises(RequestError, match="the same run"):
        padim.compare(config, run_a="a", run_b="aa")


def test_runs_with_nothing_in_common(config, rows):
    others = [{**row, "uri": f"/other/{row['image_id']}"} for row in score_rows(B, 20)]
    put_run(config, B, others)
    with pytest.raises(
        RequestError, match=r"no scored image in common .*249 in the first, 19 in the"
    ):
        padim.compare(config, run_a="a", run_b="b")


def test_verdicts_are_compared_where_both_runs_have_them(config, rows):
    put_run(config, B, score_rows(B, 250), lacking=VERDICTS)
    result = padim.compare(config, run_a="a", run_b="b")
    assert result.spearman == pytest.approx(1)
    assert (result.moved, result.new, result.new_anomalies) == ([], None, [])
    assert "no p-values" in result.notes[0]


def test_regions_in_csv(config, rows, tmp_path):
    file = tmp_path / "regions.csv"
    result = padim.export(config, format="csv", out=str(file))
    wanted = region_rows(rows)
    assert (result.images, result.regions) == (25, len(wanted))
    found = list(csv.DictReader(file.read_text().splitlines()))
    assert [(r["image_id"], int(r["region"]), float(r["p_value"])) for r in found] == sorted(
        ((r["image_id"], r["region"], r["p_value"]) for r in wanted),
        key=lambda r: (next(w["shard"] for w in wanted if w["image_id"] == r[0]), r[0], r[1]),
    )


def test_regions_as_coco(config, rows, tmp_path):
    """Every id is unique, every reference exists; without heatmaps the polygons are boxes."""
    file = tmp_path / "regions.json"
    result = padim.export(config, format="coco", out=str(file))
    wanted = {(r["image_id"], r["region"]): r for r in region_rows(rows)}
    assert (result.images, result.regions) == (25, len(wanted))
    assert result.notes[0].startswith("outlines are boxes: ")
    coco = json.loads(file.read_text())
    images = {image["id"]: image for image in coco["images"]}
    assert len(images) == len(coco["images"]) == 25
    assert [category["name"] for category in coco["categories"]] == ["anomaly"]
    assert [a["id"] for a in coco["annotations"]] == list(range(1, len(wanted) + 1))
    seen: Counter = Counter()
    for found in coco["annotations"]:
        image = images[found["image_id"]]
        seen[image["image_id"]] += 1
        row = wanted[image["image_id"], seen[image["image_id"]]]
        assert image["file_name"] == row["uri"].removeprefix("/archive/")
        assert (image["group"], found["category_id"]) == (row["group"], 1)
        x, y, width, height = found["bbox"]
        assert (x, y, x + width, y + height) == (
            row["left"],
            row["top"],
            row["right"],
            row["bottom"],
        )
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
        (outline,) = found["segmentation"]
        assert (min(outline[::2]), max(outline[::2])) == (x, x + width)
        assert (found["area"], found["iscrowd"]) == (width * height, 0)
        assert (found["p_value"], found["peak"]) == pytest.approx((row["p_value"], row["peak"]))
        assert 10 ** -found["score"] == pytest.approx(row["p_value"], rel=1e-3)
    assert seen.keys() == {image["image_id"] for image in coco["images"]}


def test_an_export_of_large_regions_and_of_all_images(config, rows, tmp_path):
    file = tmp_path / "regions.json"
    areas = [20 * (10 + region["region"]) for region in region_rows(rows)]
    least = max(areas)
    result = padim.export(config, format="coco", out=str(file), min_area=least)
    assert result.regions == areas.count(least) < len(areas)
    coco = json.loads(file.read_text())
    assert {a["image_id"] for a in coco["annotations"]} == {i["id"] for i in coco["images"]}
    result = padim.export(config, format="coco", out=str(file), all_images=True, min_area=least)
    assert (result.images, result.regions) == (249, areas.count(least))
    assert len(json.loads(file.read_text())["images"]) == 249
    result = padim.export(config, format="coco", out=str(file), min_area=1e6)
    assert (result.images, result.regions) == (0, 0)
    assert "has 1e+06 pixels" in result.notes[-1]
    csv_file = tmp_path / "regions.csv"
    assert padim.export(config, format="csv", out=str(csv_file), min_area=151).regions == 0
    with pytest.raises(RequestError, match="--all is for coco and fiftyone"):
        padim.export(config, format="csv", out=str(csv_file), all_images=True)


def test_an_export_without_regions_is_a_valid_empty_file(config, tmp_path):
    put_run(config, A, score_rows(A, 20))
    file = tmp_path / "none.json"
    result = padim.export(config, format="coco", out=str(file))
    assert result.regions == 0
    assert "no regions" in result.notes[0]
    coco = json.loads(file.read_text())
    assert coco["images"] == coco["annotations"] == []
    with pytest.raises(RequestError, match="none of csv, coco"):
        padim.export(config, format="voc", out=str(file))


def command(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, stdout and stderr."""
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_commands(config, rows, tmp_path):
    given = ("-c", str(config_file(config, tmp_path / "c.yaml")))
    code, told, _ = command("query", *given, "SELECT image_id, score FROM scores ORDER BY uri")
    assert code == 0
    assert "the first 100 rows" in told
    code, told, wrong = command("query", *given, "FROM nothing")
    assert code == 2
    assert "regions: image_id" in wrong
    assert "Traceback" not in wrong
    _, told, _ = command("query", *given, "FROM runs")  # as wide as it needs: not a terminal
    assert A in told
    _, told, _ = command("top", *given, "-n", "3", "--json")
    assert len(json.loads(told)["anomalies"]) == 3
    _, told, _ = command("top", *given, "-n", "3")
    assert padim.top(config).anomalies[0].image in told
    file = tmp_path / "x.json"
    assert command("export", *given, "--format", "coco", "--out", str(file))[0] == 0
    assert json.loads(file.read_text())["images"]
    _, told, wrong = command("compact", *given, "--log-json", "--json")
    assert json.loads(told)["runs"] == 1
    assert json.loads(wrong.splitlines()[-1])["stage"] == "compact"
    put_run(config, B, score_rows(B, 250, seed=1))
    code, told, _ = command("compare", *given, "aaaa", "bbbb")
    assert code == 0
    assert "Gone anomalies" in told


def test_a_pipe_that_is_closed_early(config, rows, tmp_path):
    """`head` closes a real pipe: no error and no message."""
    path = str(config_file(config, tmp_path / "c.yaml"))
    sql = "SELECT s.uri FROM scores s, range(400)"
    query = [sys.executable, "-m", "padim_dist", "query", "-c", path, "--format", "csv", sql]
    shell = ["bash", "-c", 'set -o pipefail; "$@" | head -n 2', "-", *query]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


def test_the_correlation_of_scores_that_are_all_equal_is_unknown(config):
    rows = [{**row, "score": 0.0} for row in score_rows(A, 20) if row["score"] is not None]
    put_run(config, A, rows)
    put_run(config, B, [{**row, "run_id": B} for row in rows])
    found = padim.compare(config, run_a=A, run_b=B)
    assert found.spearman is None
    assert found.both == len(rows)
