"""evaluate with labels and reviews: against plain loops, and on a real run with masks."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.report.verdicts import Verdicts
from padim_dist.api.settings.places import workspace_of
from padim_dist.cli.app import app
from padim_dist.core.evaluation.flags import FlagCounts, binomial_interval
from padim_dist.errors import RequestError
from padim_dist.store.runs.run import Run
from tests.api.workspace import config_file, made_config, put_run, score_rows

A = "a" * 16
ALPHA = {"alarms": {"rule": "alpha", "asked": 0.1, "alpha": 0.1}}


@pytest.fixture
def config(tmp_path):
    return made_config(str(tmp_path / "audit"))


def test_the_truth_is_the_newest_review_else_the_label(config):
    """Random labels, splits and reviews, counted again by a plain loop over the rows."""
    rng = np.random.default_rng(3)
    rows = score_rows(A, 300)
    for row in rows:
        row["label"] = rng.choice(["good", "spot", None], p=[0.5, 0.2, 0.3])
        row["split"] = rng.choice(["train", "test"], p=[0.3, 0.7])
    put_run(config, A, rows, **ALPHA)
    said: dict[str, str] = {}
    for verdict, share in (("ok", 0.3), ("defect", 0.2), ("ok", 0.05)):
        ids = [row["image_id"] for row in rows if rng.random() < share]
        padim.label(config, images=ids, verdict=verdict)
        said |= dict.fromkeys(ids, verdict)
    result = padim.evaluate(config)
    counts: dict[str, Counter] = {"a": Counter(), "b": Counter()}
    for row in rows:
        if row["split"] == "train":  # fitted on: its p-value is none of a new image
            continue
        label = {"good": False, "spot": True, None: None}[row["label"]]
        truth = {"ok": False, "defect": True, None: label}[said.get(row["image_id"])]
        counts[row["group"]][row["flagged"], truth] += row["flagged"] is not None
        counts[row["group"]]["not scored"] += row["score"] is None and truth is not None
        if truth is not None and row["score"] is not None:
            counts[row["group"]]["known"] += 1
            counts[row["group"]]["defects"] += truth
    order = [(flag, truth) for flag in (True, False) for truth in (True, False, None)]
    for group, figures in result.groups.items():
        own = counts[group]
        assert figures.flags.counts == FlagCounts(*(own[key] for key in order))
        found = (figures.images, figures.anomalous, figures.not_scored)
        assert found == (own["known"], own["defects"], own["not scored"])
    total = result.flags.counts
    assert total == FlagCounts(*(counts["a"][key] + counts["b"][key] for key in order))
    assert result.flags.false_alarm_rate.share is None
    assert (result.flags.promised, result.reviewed) == (pytest.approx(0.1), len(said))
    assert result.notes[0].startswith(f"{total.flagged_unknown} flagged images without label")


def test_image_auroc_follows_the_reviews(config):
    rows = score_rows(A, 60)
    put_run(config, A, rows, **ALPHA)
    with_defects = sorted(row["image_id"] for row in rows)[:20]
    assert padim.evaluate(config).mean["image_auroc"] is None, "only good images"
    padim.label(config, images=with_defects, verdict="defect", kind="crack")
    figures = padim.evaluate(config).groups["a"]
    own = [row for row in rows if row["group"] == "a" and row["score"] is not None]
    truth = [row["image_id"] in with_defects for row in own]
    wanted = roc_auc_score(truth, [row["score"] for row in own])
    assert figures.image_auroc == pytest.approx(wanted)
    assert figures.without_mask == sum(truth)
    run = Run(workspace_of(config), A)
    shown = Counter(Verdicts(run, run.head()).labelled()["label"])
    assert shown["crack"] == sum(f.anomalous for f in padim.evaluate(config).groups.values())
    written = json.loads(Path(config.workspace, "runs", A, "metrics.json").read_text())
    assert written["groups"]["a"]["flags"]["recall"]["whole"] == sum(truth)


def test_reviews_of_what_was_flagged_measure_the_false_alarm_rate(config, tmp_path):
    """An archive without labels: flagged images are reviewed, and the others stand for normal."""
    rows = score_rows(A, 200)
    for row in rows:
        row["label"] = None
    put_run(config, A, rows, **ALPHA)
    with pytest.raises(RequestError, match=r"no labelled image .* and no reviewed one"):
        padim.evaluate(config)
    flagged = [row["image_id"] for row in rows if row["flagged"]]
    padim.label(config, images=flagged[:5], verdict="defect")
    padim.label(config, images=flagged[5:12], verdict="ok")
    some = padim.evaluate(config).flags
    assert (some.precision.part, some.precision.whole, some.precision.share) == (5, 12, None)
    assert some.precision.low == binomial_interval(5, 20)[0]
    assert some.precision.high == binomial_interval(13, 20)[1]
    padim.label(config, images=flagged[12:], verdict="ok")
    every = padim.evaluate(config)
    assert every.notes.pop(0).startswith("image AUROC and best F1 of 'a', 'b': only flagged images")
    rate = every.flags.false_alarm_rate
    assert (rate.part, rate.whole) == (15, 199 - 5)  # one image has no score
    assert (rate.share, rate.low, rate.high) == (15 / 194, *binomial_interval(15, 194))
    assert every.flags.recall.share is None, "any image that nobody reviewed may be a defect"
    assert every.notes == [
        "179 images without flag, label and review: the false-alarm rate takes them for normal, "
        "and any of them may be a missed defect"
    ]
    path = str(config_file(config, tmp_path / "a.yaml"))
    shown = CliRunner(env={"COLUMNS": "150"}).invoke(app, ["evaluate", "-c", path])
    assert f"7.73 % ({100 * rate.low:.3g} to {100 * rate.high:.3g} %)" in shown.stdout
    promised = re.findall(r" 10 % +$", shown.stdout, re.MULTILINE)
    assert len(promised) == 3, "of both groups and of all images"


def test_leave_one_out_rows_count_for_scores_and_not_for_rates(config):
    """Reviewed images, in turn fitted on and not, of both splits."""
    rows = score_rows(A, 40)
    kinds = [("train", True), ("train", False), ("test", True), ("test", False)] * 10
    for row, (split, _) in zip(rows, kinds, strict=True):
        row["split"] = split
    put_run(config, A, rows, **ALPHA)
    padim.label(config, images=[row["image_id"] for row in rows], verdict="ok")
    scored = [(row, fitted) for row, (_, fitted) in zip(rows, kinds, strict=True) if row["score"]]

    def found() -> tuple[int, int, int]:
        result = padim.evaluate(config)
        counts = result.flags.counts
        images = sum(figures.images for figures in result.groups.values())
        return images, counts.flagged, counts.flagged_normal + counts.passed_normal

    tests = [row for row, _ in scored if row["split"] == "test"]
    assert found() == (len(tests), sum(row["flagged"] for row in tests), len(tests)), "an old run"
    for file in Path(config.workspace, "runs", A, "scores").iterdir():
        table = pq.read_table(file)
        left_out = dict(zip((row["image_id"] for row in rows), kinds, strict=True))
        column = pa.array([left_out[i.as_py()][1] for i in table["image_id"]])
        rest = table.drop_columns([n for n in table.column_names if n == "left_out"])
        pq.write_table(rest.append_column("left_out", column), file)
    fresh = [row for row, fitted in scored if not fitted]
    assert found() == (len(scored), sum(row["flagged"] for row in fresh), len(fresh))


def test_pixels_follow_the_reviews_too(tiny_audit, tmp_path):
    """A defect that is said to be ok is good: its mask is empty. A new defect has no mask."""
    shutil.copytree(tiny_audit.workspace, tmp_path / "audit")
    config = tiny_audit.model_copy(update={"workspace": str(tmp_path / "audit")})
    before = padim.evaluate(config).groups
    ids = "SELECT image_id FROM scores WHERE \"group\" = '{}' AND label = '{}' AND split = 'test'"
    found = padim.connect(config)
    spots = [i for (i,) in found.sql(ids.format("a", "spot")).fetchall()]
    good = [i for (i,) in found.sql(ids.format("b", "good")).fetchall()]
    padim.label(config, images=spots[:1], verdict="ok")
    padim.label(config, images=good[:1], verdict="defect")
    after = padim.evaluate(config).groups
    assert (before["a"].anomalous, after["a"].anomalous) == (4, 3)
    assert after["a"].images == before["a"].images
    assert after["a"].pixel_auroc < before["a"].pixel_auroc, "its bright square is normal now"
    assert (after["b"].anomalous, after["b"].without_mask) == (5, 1)
    assert after["b"].pixel_best_f1.recall == pytest.approx(before["b"].pixel_best_f1.recall)
    assert after["b"].image_auroc < before["b"].image_auroc
    padim.label(config, images=spots[:1], verdict="defect", note="it is one after all")
    again = padim.evaluate(config).groups["a"]
    assert again == before["a"]
    padim.label(config, images=spots, verdict="ok")
    none = padim.evaluate(config).groups["a"]
    assert (none.pixel_auroc, none.pro, none.image_auroc) == (None, None, None)
