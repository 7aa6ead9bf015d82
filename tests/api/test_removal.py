"""What a prune does where it is killed, where it fails, and beside other commands."""

from __future__ import annotations

from dataclasses import replace

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tombstones import Tombstone, pruned_runs, put_tombstone
from tests.api.workspace import made_config, put_run, score_rows

ONE, TWO = "aa" * 8, "bb" * 8


def test_a_run_that_was_made_again_and_pruned_again_counts_once(tmp_path):
    config = made_config(str(tmp_path))
    workspace = workspace_of(config)
    put_run(config, ONE, score_rows(ONE, 20), turn=1)
    first = Run(workspace, ONE).head()
    again = replace(first, turn=7, finished_at="2026-11-20T00:00:00+00:00")
    for head in (again, first):
        put_tombstone(workspace, Tombstone.of(head, 1, [], "2026-12-01T00:00:00+00:00"))
    assert [stone.turn for stone in pruned_runs(workspace, ())] == [7]
    workspace.folder.remove_tree(f"runs/{ONE}")
    assert padim.connect(config).sql("SELECT count(*) FROM runs").fetchall() == [(1,)]
