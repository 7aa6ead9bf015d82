"""Judging a run by another rule: nothing is scored again, and the result is that of a new run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scipy.stats import false_discovery_control

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.sql.tables import read_rows
from padim_dist.config import Config
from padim_dist.errors import ConfigError, RequestError, ResourceError
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow
from padim_dist.store.runs.run import Run, list_runs
from tests.conftest import make_mvtec, tiny_config

NORMAL = 24


@pytest.fixture(scope="module")
def scored(tmp_path_factory, scheduler) -> Config:
    """A run that flags nothing: no p-value is as low."""
    folder = tmp_path_factory.mktemp("judge")
    archive = make_mvtec(folder / "archive", normal=NORMAL)
    rule = {"alpha": 1e-300}
    config = tiny_config(folder, archive, scheduler, score=rule, archive={"shard_images": 12})
    padim.fit(config)
    assert padim.score(config).flagged == 0
    return config


@pytest.fixture
def config(scored, tmp_path) -> Config:
    """A copy without the archive: no image can be read."""
    shutil.copytree(scored.workspace, tmp_path / "audit")
    archive = scored.archive.model_copy(update={"name": scored.archive.url, "url": "/nowhere"})
    return scored.model_copy(update={"workspace": str(tmp_path / "audit"), "archive": archive})


def flagged(config: Config) -> set[str]:
    rows = padim.open_scores(config.workspace).filter("flagged").project("image_id").fetchall()
    return {image for (image,) in rows}


def worst(config: Config, n: int) -> list[str]:
    scored = padim.open_scores(config.workspace).filter("score IS NOT NULL")
    rows = scored.project("p_value, -score, uri, image_id").fetchall()
    return [image for *_, image in sorted(rows)[:n]]


def test_a_review_is_of_exactly_as_many_images(config):
    for n in (1, 5, 20):
        result = padim.judge(config, review=n)
        assert (result.flagged, result.rule.split()[1]) == (n, str(n))
        assert flagged(config) == set(worst(config, n))
        assert padim.top(config, flagged=True, n=100).flagged == n
    everything = padim.judge(config, review=10_000)
    assert everything.flagged == padim.top(config).scored
    (head,) = list_runs_of(config)
    assert head.flagged == everything.flagged, "the same run"


def list_runs_of(config: Config) -> list[RunHead]:
    return list_runs(workspace_of(config))


@pytest.mark.parametrize("rule", [{"alpha": 0.2}, {"fdr": 0.3}, {"false_alarms_per_run": 5}, {}])
def test_it_is_as_if_the_run_had_been_scored_by_this_rule(scored, config, tmp_path, rule):
    """Flags and regions; those of a judgement come from the kept heatmaps."""
    padim.judge(config, **(rule or {"alpha": "auto"}))
    given = dict.fromkeys(("per_million", "false_alarms_per_run", "fdr", "review"))
    given |= {"alpha": "auto"} | rule
    anew = scored.model_copy(
        update={
            "workspace": str(tmp_path / "anew"),
            "score": scored.score.model_copy(update=given),
        }
    )
    shutil.copytree(scored.workspace, tmp_path / "anew")
    shutil.rmtree(tmp_path / "anew/runs")
    padim.score(anew)
    assert flagged(config) == flagged(anew) != set()
    tables = [padim.open_regions(c.workspace).order("image_id, region") for c in (config, anew)]
    first, second = (table.fetchall() for table in tables)
    assert len(first) >= len(flagged(config))
    peak = tables[0].columns.index("peak")
    for one, other in zip(first, second, strict=True):
        assert one[peak] == pytest.approx(other[peak], rel=1e-6)
        assert one[:peak] == other[:peak]


def test_a_run_of_many_files_is_judged_some_at_a_time(scored, config, tmp_path, monkeypatch):
    """Flags and regions are the same, and regions that are there are seen in all files."""
    other = config.model_copy(update={"workspace": str(tmp_path / "other")})
    shutil.copytree(scored.workspace, other.workspace)
    assert len([*Path(other.workspace).rglob("scores/shard-*.parquet")]) > 2
    for number, config_ in enumerate((config, other)):
        monkeypatch.setattr("padim_dist.api.sql.tables._TOGETHER", 1 if number else 1000)
        assert padim.judge(config_, review=9).regions >= 9
        assert padim.judge(config_, review=9).regions == 0
        assert padim.judge(config_, alpha=0.5).flagged > 9
        assert len([*Path(config_.workspace).rglob("regions/added-*")]) == 2
        assert padim.judge(config_, alpha=0.5).regions == 0
    assert flagged(config) == flagged(other)
    first, second = (
        padim.open_regions(c.workspace).order("image_id, region").fetchall()
        for c in (config, other)
    )
    assert first == second


def test_rows_that_fit_nowhere_are_said_so(config, monkeypatch):
    monkeypatch.setattr("padim_dist.api.pipeline.judge._MEGABYTES", 0)
    with pytest.raises(ResourceError, match=r"fit neither in .*set TMPDIR to another folder"):
        padim.judge(config, review=9)


def test_false_discoveries_are_bounded(config):
    result = padim.judge(config, fdr=0.2)
    rows = padim.open_scores(config.workspace).filter("p_value IS NOT NULL")
    p = rows.project("p_value").fetchnumpy()["p_value"]
    wanted = false_discovery_control(p) <= 0.2
    assert (result.flagged, result.cutoff) == (wanted.sum(), p[wanted].max())


def test_auto_flags_what_is_beyond_all_normal_images(config):
    padim.judge(config, alpha="auto")
    rows = padim.open_scores(config.workspace).filter("score IS NOT NULL")
    model = padim.open_model(config.workspace)
    beyond = {
        image
        for image, group, score, left_out in rows.project(
            'image_id, "group", score, left_out'
        ).fetchall()
        # An image in the model is compared with all others: of these the highest may be flagged.
        if score > model.calibration(group).scores[-2 if left_out else -1] + 1e-3
    }
    assert flagged(config) == beyond != set()


def test_score_with_another_rule_scores_nothing(config, scored):
    back = config.model_copy(update={"archive": scored.archive})
    score = back.score.model_copy(update={"review": 3, "alpha": "auto"})
    result = padim.score(back.model_copy(update={"score": score}))
    assert (result.scored, result.flagged) == (0, 3)
    assert padim.score(back).flagged == 0, "the rule of the configuration again"


def test_alpha_of_a_question_changes_nothing(config):
    files = sorted(Path(config.workspace).rglob("*"))
    count = "SELECT count(*) FILTER (flagged) FROM latest"
    (found,) = padim.query(config, sql=count, alpha=0.2).rows
    assert found == [padim.top(config, alpha=0.2).flagged]
    assert found[0] > 0
    assert padim.query(config, sql=count).rows == [[0]]
    assert sorted(Path(config.workspace).rglob("*")) == files


def test_regions_are_found_once(config):
    first = padim.judge(config, review=5)
    assert first.regions >= 5
    assert padim.judge(config, review=5).regions == 0
    assert padim.judge(config, review=4).regions == 0
    (run,) = list_runs_of(config)
    table = Run(workspace_of(config), run.run_id).regions
    table.add(read_rows(RegionRow, padim.open_regions(config.workspace)))
    again = padim.open_regions(config.workspace)
    assert again.count("*").fetchall() == [(4,)], "the same regions twice count once"
    padim.compact(config)
    assert padim.judge(config, review=6).regions >= 1
    found = padim.open_regions(config.workspace).project("image_id").distinct()
    assert {image for (image,) in found.fetchall()} == flagged(config)


def test_without_heatmaps_regions_are_not_known(config, scored, tmp_path):
    score = scored.score.model_copy(update={"heatmaps": "none"})
    bare = config.model_copy(update={"score": score, "archive": scored.archive})
    padim.score(bare)
    result = padim.judge(bare, review=2)
    assert (result.flagged, result.regions) == (2, 0)
    assert "regions of 2 flagged images are not known" in result.notes[0]


def test_wrong_rules(config):
    with pytest.raises(ConfigError, match="'fdr' and 'review' exclude each other"):
        padim.judge(config, fdr=0.1, review=3)
    with pytest.raises(ConfigError, match=r"score\.review"):
        padim.judge(config, review=0)
    with pytest.raises(
        ConfigError, match="alpha is a share between 0 and 1, or auto; found 'often'"
    ):
        padim.top(config, alpha="often")
    with pytest.raises(RequestError, match="0 runs whose id begins with 'zz'"):
        padim.judge(config, run="zz", review=3)
