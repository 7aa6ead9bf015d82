"""Lists of nights, groups over nights, and figures by week."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import theilslopes
from typer.testing import CliRunner

import padim_dist as padim
from padim_dist.api.nights.audit import AuditResult
from padim_dist.api.nights.oddness import past_sentence
from padim_dist.api.nights.trends import group_trends, slope
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.sql.nights import night_rows, title_of_run
from padim_dist.cli.app import app
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.pages.night import night_markdown
from padim_dist.store.nights import NightImage
from tests.api.nights import MODEL, group, made_night, put_night
from tests.api.workspace import config_file, made_config, put_run, score_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Config:
    """Four nights: of a camera, of two with defects, an empty one, an open one."""
    folder = tmp_path_factory.mktemp("nights")
    config = made_config(str(folder / "audit"), str(folder / "photos"))
    put_night(config, made_night(1, {"a": group()}))
    two = {"a": group(11.0, 1), "b=1": group(30.0, 4, 50, excess=5.0)}
    put_night(config, made_night(2, two, drift="The images differ.", past="3 needed."))
    put_night(config, made_night(3, {}, state="odd", reasons=["no image came"]))
    put_night(config, 4)
    return config


def test_sentences_have_labels_as_an_audit_has_them(made, tmp_path):
    path = str(config_file(made, tmp_path / "audit.yaml"))
    shown = CliRunner().invoke(app, ["nights", "2", "-c", path]).stdout
    assert "             drift  The images differ.\n    earlier nights  3 needed.\n" in shown
    shown = CliRunner().invoke(app, ["nights", "3", "-c", path]).stdout
    assert "               odd  no image came\n" in shown


def test_the_list_of_nights(made):
    lines = padim.nights(made).nights
    assert [line.title for line in lines] == [
        "Night 1, 25 November, photos",
        "Night 2, 26 November, photos",
        "Night 3, 27 November, photos",
        "Night 4, 28 November, photos",
    ]
    assert [line.state for line in lines] == ["done", "done", "odd", "open"]
    assert [line.images for line in lines] == [100, 150, 0, None]
    assert [line.flagged for line in lines] == [0, 5, None, None]
    assert lines[1].flagged_share == 0.0333
    assert lines[1].runs == [f"{2:016x}"]


def test_a_night_beside_the_one_before(made):
    found = padim.nights(made, number=2)
    assert [line.number for line in found.nights] == [1, 2]
    assert (found.came, found.gone) == (["b=1"], [])
    a, b = found.groups
    assert (a.median_score, a.median_score_before) == (11.0, 10.0)
    assert (a.flagged_share, a.flagged_share_before) == (0.01, 0.0)
    assert (b.images, b.images_before, b.drift, b.drift_before) == (50, None, 10.0, None)
    assert (found.reasons, found.drift, found.past) == ([], "The images differ.", "3 needed.")
    third = padim.nights(made, number=3)
    assert third.gone == ["a", "b=1"]
    assert third.reasons == ["no image came"]
    first = padim.nights(made, number=1)
    assert ([line.number for line in first.nights], first.came, first.gone) == ([1], [], [])


def test_a_night_that_is_not_there(made, tmp_path):
    with pytest.raises(RequestError, match="no night 9, only nights 1 to 4"):
        padim.nights(made, number=9)
    with pytest.raises(RequestError, match="night 4 is not finished; 'padim-dist audit'"):
        padim.nights(made, number=4)
    none = made_config(str(tmp_path / "none"))
    assert "no night is finished yet" in padim.nights(none).notes[0]
    assert "no night is finished yet" in padim.groups(none).notes[0]


def test_another_model_is_named(tmp_path):
    config = made_config(str(tmp_path / "audit"), str(tmp_path / "photos"))
    put_night(config, made_night(1, {"a": group()}, model_id="n" * 16))
    put_night(config, made_night(2, {"a": group()}))
    (note,) = padim.nights(config, number=2).notes
    assert "night 1 used another model (nnnn" in note


def test_the_nights_of_runs(made):
    workspace = workspace_of(made)
    found = {run: row.night for row in night_rows(workspace) for run in row.runs}
    assert found == {f"{1:016x}": 1, f"{2:016x}": 2}
    assert title_of_run(workspace, f"{2:016x}") == "Night 2, 26 November, photos"
    assert title_of_run(workspace, "f" * 16) is None
    rows = night_rows(workspace)
    assert [(row.night, row.images, row.scored, row.flagged) for row in rows] == [
        (1, 100, 100, 0),
        (2, 150, 150, 5),
        (3, 0, 0, None),
    ]


def test_views_know_the_night_of_a_row(made):
    put_run(made, f"{2:016x}", score_rows(f"{2:016x}", 20))
    put_run(made, "f" * 16, score_rows("f" * 16, 10))
    database = padim.connect(made)
    counts = "SELECT night, count(*) FROM scores GROUP BY night ORDER BY night NULLS LAST"
    assert database.sql(counts).fetchall() == [(2, 20), (None, 10)]
    assert database.sql("SELECT DISTINCT night FROM latest").fetchall()
    columns = "night, title, flagged, state, runs, reasons, opened_at"
    rows = database.sql(f"SELECT {columns} FROM nights ORDER BY night").fetchall()
    assert [row[:4] for row in rows] == [
        (1, "Night 1, 25 November, photos", 0, "done"),
        (2, "Night 2, 26 November, photos", 5, "done"),
        (3, "Night 3, 27 November, photos", None, "odd"),
    ]
    assert rows[1][4:] == ([f"{2:016x}"], [], datetime(2026, 11, 26, 2, tzinfo=UTC))
    assert rows[2][5] == ["no image came"]


def test_commands_print_nights_and_groups(made, tmp_path):
    path = config_file(made, tmp_path / "audit.yaml")

    def shown(*arguments: str) -> str:
        done = CliRunner(env={"COLUMNS": "250"}).invoke(app, [*arguments, "-c", str(path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "Night 2, 26 November, photos" in shown("nights")
    two = shown("nights", "2")
    assert "new groups  b=1" in two
    assert "The images differ." in two
    listed = shown("groups")
    assert listed.index("b=1") < listed.index(" a ")
    assert json.loads(shown("nights", "--json").splitlines()[-1])["nights"][1]["flagged"] == 5


def test_a_slope_is_that_of_theil_and_sen():
    rng = np.random.default_rng(0)
    x, y = np.arange(9.0), rng.normal(size=9)
    assert slope(list(zip(x, y, strict=True))) == pytest.approx(theilslopes(y, x).slope)
    assert slope([(1, 2.0), (2, 3.0)]) is None


def test_groups_over_nights():
    nights = [
        made_night(1, {"a": group(99.0, 50)}, model_id="former"),
        *(made_night(n, {"a": group(8.0 + n), "b": group(20.0, 2)}) for n in (2, 3, 4)),
        made_night(5, {"a": group(13.0, excess=5.0), "c": group(1.0, None)}),
    ]
    b, a, c = group_trends(nights)
    assert (a.group, a.nights, a.images, a.flagged) == ("a", 4, 400, 0), "of the newest model"
    assert (a.median_score, a.usual_score, a.rise) == (13.0, 11.0, 0.1818)
    assert a.trend == pytest.approx(1 / 11.5, rel=1e-3)
    assert (a.drift, a.drifted) == (10.0, True)
    assert (b.group, b.flagged_share, b.trend, b.rise) == ("b", 0.02, 0.0, 0.0)
    assert (c.flagged, c.flagged_share, c.usual_score, c.trend) == (None, None, None, None)


def test_the_sentence_on_earlier_nights():
    before = [made_night(n, {"a": group()}) for n in (1, 2)]
    others = [made_night(3, {"a": group()}, model_id="n"), made_night(4, {})]
    assert past_sentence(3, "done", MODEL, before) == (
        "Odd nights can be told from night 4 on: 2 earlier nights of this model, 3 needed."
    )
    assert "from night 6 on: 2 earlier" in past_sentence(5, "done", MODEL, [*before, *others])
    third = replace(before[0], number=3)
    assert past_sentence(4, "odd", MODEL, [*before, third]) == (
        "Compared with 3 earlier nights of this model, the night is odd."
    )


def test_figures_by_week(tmp_path):
    """A picture counts in the week that it was taken in, else in that of its scoring."""
    config = made_config(str(tmp_path / "audit"), str(tmp_path / "photos"))
    put_night(config, made_night(1, {"a": group()}))
    rows = score_rows(f"{1:016x}", 40)
    sunday, monday = (datetime(2026, 11, *when, tzinfo=UTC) for when in ((22, 23), (23, 0, 1)))
    for i, row in enumerate(rows):
        row["captured_at"] = (sunday, monday, None)[i % 3]
        row["scored_at"] = datetime(2027, 1, 3, 12, tzinfo=UTC)
    put_run(config, f"{1:016x}", rows)
    weeks = padim.nights(config, weeks=True).weeks
    names = ("2026-W47", "2026-W48", "2026-W53")
    assert [(w.week, w.group) for w in weeks] == [(w, g) for w in names for g in (None, "a", "b")]
    for place, week in enumerate(names):
        for name in (None, "a", "b"):
            (found,) = (w for w in weeks if (w.week, w.group) == (week, name))
            own = [
                row
                for i, row in enumerate(rows)
                if i % 3 == place and row["status"] == "scored" and name in (None, row["group"])
            ]
            flagged = sum(row["flagged"] for row in own)
            assert (found.images, found.flagged) == (len(own), flagged)
            assert found.flagged_share == pytest.approx(flagged / len(own))
            assert found.median_p == pytest.approx(np.median([row["p_value"] for row in own]))
            middle = np.median([row["score"] for row in own])
            assert found.median_score == (pytest.approx(middle) if name else None)


@pytest.mark.parametrize(("state", "code"), [("odd", 3), ("done", 0)])
def test_an_odd_night_ends_with_3_if_asked(state, code, tmp_path, monkeypatch):
    path = config_file(made_config(str(tmp_path / "audit")), tmp_path / "audit.yaml")
    row = {"uri": "/photos/cam 1/x.png", "member": None, "group": "a", "label": None}
    row |= {"score": 41.26, "p_value": 0.00123, "flagged": True, "peak_y": 1, "peak_x": 2}
    top = [NightImage(**row, image_id="3" * 16, run_id="4" * 16)]
    night = made_night(1, {"b": group(10.0, 2), "a": group(10.0, 3)}, state=state, top=top)
    found = AuditResult([night], None, 1.0, "/photos")
    monkeypatch.setitem(padim.__dict__, "audit", lambda *_, **__: found)
    done = CliRunner().invoke(app, ["audit", "-c", str(path), "--fail-on-odd"])
    assert done.exit_code == code
    assert "flagged  5 (a 3, b 2)" in done.stdout
    assert "highest  41.3  p 0.0012  a  cam 1/x.png\n" in done.stdout
    assert "| 41.3 | 0.0012 | yes |" in night_markdown(night)
    assert CliRunner().invoke(app, ["audit", "-c", str(path)]).exit_code == 0
