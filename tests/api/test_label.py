"""label: what is written, what is refused, and who sees it."""

from __future__ import annotations

import csv
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.cli.app import app
from padim_dist.errors import RequestError
from tests.api.workspace import config_file, made_config, put_run, score_rows

A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def config(tmp_path):
    config = made_config(str(tmp_path / "audit"))
    put_run(config, A, score_rows(A, 40))
    return config


@pytest.fixture
def ids():
    return [row["image_id"] for row in score_rows(A, 40)]


def ask(config, sql):
    return padim.connect(config).sql(sql).fetchall()


def verdicts(config):
    return dict(ask(config, "SELECT image_id, verdict FROM scores WHERE verdict IS NOT NULL"))


def test_ids_prefixes_and_paths_mean_images(config, ids):
    made = padim.label(config, images=[ids[0], ids[1][:9], "a/0002.png"], verdict="ok", by="ann")
    assert (made.number, made.images, made.ok, made.defect, made.who) == (1, 3, 3, 0, "ann")
    assert verdicts(config) == dict.fromkeys(ids[:3], "ok")
    kept = ask(config, "SELECT image_id, uri, etag, who, run_id, newest FROM reviews")
    wanted = [(ids[i], f"/archive/a/{i:04d}.png", "1", "ann", None, True) for i in range(3)]
    assert sorted(kept) == sorted(wanted)


def test_what_is_not_known_is_refused_by_name_and_nothing_is_written(config, ids, tmp_path):
    with pytest.raises(
        RequestError, match=r"no images 'ffffffffffffffff', 'no/such.png'\. Nothing was done"
    ):
        padim.label(config, images=["f" * 16, ids[0], "no/such.png"], verdict="ok")
    shared = next(d for d in "0123456789abcdef" if sum(i[0] == d for i in ids) > 1)
    with pytest.raises(RequestError, match=f"several images have ids that begin with '{shared}'"):
        padim.label(config, images=[shared], verdict="ok")
    for wrong, message in [
        ({"images": [ids[0]]}, "name a verdict, ok or defect, after the images"),
        ({"verdict": "ok"}, "name images and a verdict"),
        ({"images": [ids[0]], "verdict": "good"}, "verdict 'good' is neither 'ok' nor 'defect'"),
        ({"images": [ids[0]], "verdict": "ok", "kind": "crack"}, "leave it out for the verdict ok"),
        (
            {"images": [ids[0]], "verdict": "ok", "file": "x.csv"},
            "give one of them, or images",
        ),
        ({"file": "x.csv", "kind": "crack"}, "--kind and --note are those of one verdict"),
        ({"fiftyone": "night", "note": "?"}, "--kind and --note are those of one verdict"),
        ({"fiftyone": "night", "file": "x.csv"}, "give one of them, or images"),
        ({"fiftyone": "night"}, r"FiftyOne cannot be used .* pip install 'padim-dist\[fiftyone\]'"),
        ({"images": [ids[0]], "verdict": "ok", "run": "f"}, "0 runs whose id begins with 'f'"),
    ]:
        with pytest.raises(RequestError, match=message):
            padim.label(config, **wrong)
    assert not (tmp_path / "audit/reviews").exists()


WRONG_FILES = [
    ("a.csv", "id,verdict\nx,ok\n", "lacks 1 column: image_id. It has 'id', 'verdict'. Needed"),
    ("a.csv", "image_id;verdict\nx;ok\n", "separate columns by commas"),
    ("a.csv", "", "lacks 2 columns: image_id, verdict. It has none"),
    ("a.csv", "image_id,verdict\n", "has no reviews"),
    ("a.csv", "image_id,verdict\nx,ok\ny,bad\nz\n", "2 wrong rows, .* row 3: verdict 'bad'"),
    ("a.csv", 'image_id,verdict\n"x,ok\n', "is not CSV"),
    ("a.json", "[]", "no file of reviews"),
    ("a.json", "{", "is not JSON"),
    ("a.json", '{"padim_dist": "run", "reviews": []}', "no file of reviews"),
    ("a.json", '{"padim_dist": "reviews", "reviews": []}', "has no reviews"),
    ("a.json", '{"padim_dist": "reviews", "reviews": ["x"]}', "review 1: 'x' is no object"),
    ("a.json", '{"padim_dist": "reviews", "run": 7, "reviews": []}', "run is 7"),
    ("a.txt", "x", "is a .csv or .json file"),
    ("a.csv", b"\xff\xfe", "is not UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES)
def test_wrong_files_are_refused(config, tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=message):
        padim.label(config, file=str(file))
    with pytest.raises(RequestError, match="cannot be read"):
        padim.label(config, file=str(tmp_path / "none.csv"))
    assert not (tmp_path / "audit/reviews").exists()


def test_files_of_people_and_of_the_report(config, ids, tmp_path):
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        rows = [("score", "image_id", "verdict", "kind", "note"), (1, ids[0], "OK", "", "fine")]
        csv.writer(file).writerows([*rows, (2, ids[1], "defect", "Kratzer, groß", 'a "b"\nc')])
    padim.label(config, file=str(tmp_path / "a.csv"), by="ann")
    reviews = [
        {"image_id": ids[2], "verdict": "defect", "kind": None, "note": "\ud800 s3://u:pw@h/x"},
        {"image_id": ids[3], "verdict": "ok", "kind": "left over"},
    ]
    saved = {"padim_dist": "reviews", "run": A, "reviews": reviews}
    (tmp_path / "b.json").write_text(json.dumps(saved))
    made = padim.label(config, file=str(tmp_path / "b.json"), by="bob")
    assert (made.images, made.ok, made.defect) == (2, 1, 1)
    (tmp_path / "c.json").write_text(json.dumps({**saved, "run": B}))
    with pytest.raises(RequestError, match=f"c.json is about run {B}, which this workspace does"):
        padim.label(config, file=str(tmp_path / "c.json"))
    found = ask(config, "SELECT image_id, verdict, kind, note, who, run_id FROM reviews")
    assert found[0] == (ids[0], "ok", None, "fine", "ann", None)
    assert found[1] == (ids[1], "defect", "Kratzer, groß", 'a "b"\nc', "ann", None)
    assert found[2][:3] == (ids[2], "defect", None)
    assert "pw" not in found[2][3]
    assert found[3] == (ids[3], "ok", None, "", "bob", A)
    truth = ask(config, "SELECT verdict, kind FROM scores WHERE verdict IS NOT NULL ORDER BY uri")
    assert truth == [("ok", None), ("defect", "Kratzer, groß"), ("defect", None), ("ok", None)]


def test_of_reviewers_who_disagree_the_newest_counts_and_both_are_kept(config, ids):
    padim.label(config, images=ids[:3], verdict="ok", by="ann")
    made = padim.label(config, images=ids[2:4], verdict="defect", by="bob")
    (one,) = made.disagreements
    assert (one.image, one.verdict, one.before, one.by) == ("a/0002.png", "defect", "ok", "ann")
    assert "said otherwise of 1 image: the newest counts, all are kept" in made.notes[0]
    wanted = {ids[0]: "ok", ids[1]: "ok", ids[2]: "defect", ids[3]: "defect"}
    shown = {image.image_id: image.verdict for image in padim.top(config, n=40).anomalies}
    assert {i: shown[i] for i in ids[:5]} == {**wanted, ids[4]: None}
    assert verdicts(config) == wanted
    both = f"SELECT who, newest FROM reviews WHERE image_id = '{ids[2]}' ORDER BY review"
    assert ask(config, both) == [("ann", False), ("bob", True)]


def test_people_who_label_at_once_lose_nothing(config, ids):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(padim.label, config, images=[i], verdict="ok") for i in ids[:8]]
    assert sorted(job.result().number for job in jobs) == list(range(1, 9))
    assert verdicts(config).keys() == set(ids[:8])


def test_a_verdict_is_about_the_object_that_was_reviewed(config, ids):
    """The file is replaced, and then restored: each content has the verdict that is about it."""
    padim.label(config, images=ids[:2], verdict="ok")
    later = [{**row, "run_id": B} for row in score_rows(B, 40)]
    later[0]["etag"] = "2"
    put_run(config, B, later, turn=1)
    seen = "SELECT run_id, verdict FROM scores WHERE image_id = '{}' ORDER BY 1"
    assert ask(config, seen.format(ids[0])) == [(A, "ok"), (B, None)]
    assert ask(config, seen.format(ids[1])) == [(A, "ok"), (B, "ok")]
    assert "1 image of the run: reviewed as another object" in padim.evaluate(config).notes[0]
    assert padim.label(config, images=ids[:1], verdict="defect").disagreements == []
    assert ask(config, seen.format(ids[0])) == [(A, "ok"), (B, "defect")]
    restored = [{**row, "run_id": C} for row in score_rows(C, 40)]
    put_run(config, C, restored, turn=2)
    assert ask(config, seen.format(ids[0])) == [(A, "ok"), (B, "defect"), (C, "ok")]
    notes = [note for run in (A, B, C) for note in padim.evaluate(config, run=run).notes]
    assert not any("another object" in note for note in notes)
    (changed,) = padim.label(config, images=ids[:1], verdict="defect").disagreements
    assert (changed.verdict, changed.before) == ("defect", "ok")
    newest = "SELECT etag, verdict FROM reviews WHERE newest AND image_id = '{}' ORDER BY ALL"
    assert ask(config, newest.format(ids[0])) == [("1", "defect"), ("2", "defect")]


def test_a_verdict_is_not_about_the_same_path_of_another_archive(config, ids, tmp_path):
    """Both have the same ids; the tables of one, of an old version, have no etags."""
    other = made_config(config.workspace, "/other")
    rows = [
        {**row, "run_id": B, "uri": row["uri"].replace("/archive/", "/other/"), "etag": None}
        for row in score_rows(B, 40)
    ]
    put_run(other, B, rows, turn=1)
    padim.label(config, images=ids[:2], verdict="defect", run=A)
    made = padim.label(other, images=ids[1:3], verdict="ok", run=B)
    assert made.disagreements == []
    seen = "SELECT image_id, verdict FROM scores WHERE run_id = '{}' AND verdict IS NOT NULL"
    assert dict(ask(config, seen.format(A))) == dict.fromkeys(ids[:2], "defect")
    assert dict(ask(config, seen.format(B))) == dict.fromkeys(ids[1:3], "ok")
    for run in (A, B):
        found = padim.evaluate(config, run=run)
        assert (found.reviewed, [n for n in found.notes if "another object" in n]) == (2, [])
    padim.label(config, images=[ids[3], "a/0004.png"], verdict="ok")
    assert {ids[3], ids[4]} < dict(ask(config, seen.format(A))).keys(), "though B is newer"


def test_reviews_are_joined_by_hash(config, ids):
    """Etags are compared by IS NOT DISTINCT FROM; a nested loop would take hours of a million."""
    padim.label(config, images=ids[:2], verdict="ok")
    ((_, plan),) = ask(config, "EXPLAIN SELECT count(verdict) FROM scores")
    words = plan.lower().replace("_", " ")
    assert "hash join" in words
    assert "nested loop" not in words


def test_the_command(config, ids, tmp_path):
    path = config_file(config, tmp_path / "a.yaml")

    def run(*words: str):
        return CliRunner(env={"COLUMNS": "150"}).invoke(app, ["label", "-c", str(path), *words])

    done = run(ids[0], ids[1], "defect", "--kind", "crack", "--by", "ann\x1b[2J")
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.output
    done = run(ids[0][:8], "ok", "--by", "bob")
    assert "Differ from earlier reviews" in done.stdout
    assert "a/0000.png" in done.stdout
    done = run(ids[0], "fine")
    assert (done.exit_code, "name a verdict" in done.stderr) == (2, True)
    assert ask(config, "SELECT count(*), count(kind) FROM reviews") == [(3, 2)]


def test_prefixes_do_not_hide_ids(tmp_path):
    """A full id is looked up by itself, and many ids at once."""
    config = made_config(str(tmp_path / "audit"))
    rows = score_rows(A, 300)
    put_run(config, A, rows)
    ids = [row["image_id"] for row in rows]
    assert padim.label(config, images=[*ids, ids[0][:10]], verdict="ok").images == 300
    known = {hashlib.sha256(row["uri"].encode()).hexdigest()[:16] for row in rows}
    assert verdicts(config).keys() == known
