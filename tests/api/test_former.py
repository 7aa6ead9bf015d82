"""Runs of version 0.1, whose heads have other keys and the former name of a setting."""

from __future__ import annotations

from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.settings.places import run_settings, workspace_of
from padim_dist.errors import RequestError
from padim_dist.store.runs.run import Run, list_runs
from tests.api.workspace import made_config, put_run, score_rows

OLD, HALF = "a" * 16, "b" * 16
VERDICTS = ["p_value", "flagged", "p_extrapolated"]


@pytest.fixture
def config(tmp_path):
    """A workspace of a finished run and a newer, half-done one; 20 false alarms a run."""
    config = made_config(str(tmp_path / "audit"), score={"false_alarms_per_run": 20})
    score = config.score.model_dump(mode="json")
    score["a_run"] = score.pop("false_alarms_per_run")
    former = {
        "settings": [{"score": score}],
        "asked": {"score": score},
        "alarms": {"rule": "a_run", "asked": 20, "alpha": 0.1},
    }
    put_run(config, OLD, score_rows(OLD, 50), flagged=5, **former)
    later = "2026-01-02T00:00:00+00:00"
    put_run(config, HALF, score_rows(HALF, 20), finished=False, asked_at=later, **former)
    return config


def test_they_are_listed_with_the_current_settings(config):
    old, half = list_runs(workspace_of(config))
    assert (old.run_id, old.is_finished, old.flagged) == (OLD, True, 5)
    assert old.statuses == {"scored": 49, "unreadable": 1}
    assert (half.run_id, half.is_finished, half.statuses) == (HALF, False, {})
    assert half.finished_at is None
    for head in (old, half):
        assert run_settings(config) in head.settings
        assert head.asked["score"] == config.score.model_dump(mode="json")
        assert head.alarms is not None
        assert (head.alarms.rule, head.alarms.asked) == ("false_alarms_per_run", 20)
        assert head.known_cutoff == 0.1


def test_asking_again_writes_only_if_something_changes(config):
    settings, later = run_settings(config), "2026-01-03T00:00:00+00:00"
    old, half = (Run(workspace_of(config), run_id) for run_id in (OLD, HALF))
    file = Path(config.workspace, "runs", HALF, "run.json")
    before = file.read_bytes()
    assert half.ask_again(settings, later) == half.head()
    assert file.read_bytes() == before, "it was the newest run already"
    assert old.ask_again(settings, later).asked_at == later
    assert [head.run_id for head in list_runs(workspace_of(config))] == [HALF, OLD]
    assert old.head().settings == [settings]


def test_they_can_be_queried(config):
    sql = (
        "SELECT run_id, rule, alpha, finished_at IS NOT NULL, scored, flagged FROM runs ORDER BY 1"
    )
    rule = "false_alarms_per_run"
    assert padim.query(config, sql=sql).rows == [
        [OLD, rule, 0.1, True, 49, 5],
        [HALF, rule, 0.1, False, None, None],
    ]
    counts = "SELECT run_id, count(*) FROM scores GROUP BY 1"
    assert padim.query(config, sql=counts).rows == [[OLD, 50]]
    assert padim.query(config, sql=counts, run=HALF).rows == [[HALF, 20]]


def test_top_uses_the_finished_run(config):
    found = padim.top(config)
    assert (found.run_id, found.scored, found.flagged, found.notes) == (OLD, 49, 5, [])
    half = padim.top(config, run=HALF)
    assert half.run_id == HALF
    assert "half done" in half.notes[0]


def test_a_head_without_a_rule(config):
    """Before there were alarm rules a head had neither `alarms` nor `asked`."""
    put_run(config, "c" * 16, score_rows("c" * 16, 20), lacking=VERDICTS)
    head = Run(workspace_of(config), "c" * 16).head()
    assert (head.alarms, head.asked, head.drift, head.known_cutoff) == (None, {}, {}, None)
    assert padim.top(config, run="c").flagged is None
    with pytest.raises(RequestError, match="has no calibration"):
        padim.top(config, run="c", flagged=True)
