"""Rules of nights: several share a rate of false alarms; an archive without the model's groups."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import Config
from padim_dist.core.batches import judge_batch, next_level
from padim_dist.errors import RequestError
from padim_dist.store.nights import last_night
from tests.conftest import draw, tiny_config

RATE, NIGHTS = 0.3, 2


@pytest.fixture(scope="module")
def config(tmp_path_factory, scheduler) -> Config:
    """A promoted model of 24 normal images."""
    folder = tmp_path_factory.mktemp("rules")
    root = folder / "archive"
    for i in range(24):
        draw(root / "a/good" / f"{i}.jpg", i)
    archive = {"layout": "folder", "train": "/good/", "group": "^(?P<group>[^/]+)/"}
    rule = {"score": {"fdr": RATE, "splits": ["test"]}, "audit": {"fdr_nights": NIGHTS}}
    config = tiny_config(folder, root, scheduler, archive=archive, **rule)
    padim.promote(config, model=padim.fit(config).model_id, note="")
    return config


def test_nights_share_a_rate_of_false_alarms(config):
    root = Path(config.archive.url)
    batches = []
    for night in range(3):
        for i in range(6):
            draw(root / "a/line" / f"{night}-{i}.png", 100 * night + i, spoiled=i < 2)
        (summary,) = padim.audit(config).nights
        scores = [padim.open_scores(f"{config.workspace}/runs/{run}") for run in summary.runs]
        rows = [row for one in scores for row in one.project("p_value, flagged").fetchall()]
        before = batches[-1:] if night == 1 else []  # the third night begins a new week of two
        level = next_level(before, len(rows), RATE, NIGHTS)
        cutoff, batch = judge_batch([p for p, _ in rows], level)
        batches.append(batch)
        assert summary.batch == batch
        assert [flagged for _, flagged in rows] == [p <= cutoff for p, _ in rows]
        assert summary.flagged == batch.flagged
    assert batches[0].flagged > 0
    assert batches[1].level > batches[0].level == RATE / NIGHTS


def test_an_archive_without_the_groups_of_the_model_is_refused(config, tmp_path):
    """Also if the expression finds no group at all; no night is opened."""
    shutil.copytree(config.workspace, tmp_path / "audit")
    for expression in (r"/(?P<group>\d)-", "^(?P<group>nothing)/"):
        archive = config.archive.model_copy(update={"group": expression})
        where = {"workspace": str(tmp_path / "audit"), "archive": archive}
        other = config.model_copy(update=where)
        with pytest.raises(RequestError, match="has none of the groups of the archive"):
            padim.audit(other)
        assert last_night(workspace_of(other), archive_settings(other)) is None
