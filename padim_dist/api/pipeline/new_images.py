"""New images: those of a manifest that no finished run of a model has scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from padim_dist.api.pipeline.index import cut_rows
from padim_dist.api.settings.moved import rows_here, scored_here
from padim_dist.api.settings.places import archive_root, logger, workspace_of
from padim_dist.archive.listing.increments import SCORED_SCHEMA, not_scored
from padim_dist.archive.listing.workbench import Workbench
from padim_dist.config import Config
from padim_dist.core.status import SETTLED, UNSETTLED
from padim_dist.pages.words import counted
from padim_dist.store.manifests import Snapshot, write_manifest
from padim_dist.store.models import ModelInfo
from padim_dist.store.records import unless_damaged
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tombstones import pruned_runs
from padim_dist.store.runs.turns import runs_since
from padim_dist.store.workspace import Workspace


def select_new(config: Config, model: ModelInfo, manifest: Snapshot) -> Snapshot:
    """Return a manifest of the images of a manifest that no finished run of a model has scored.

    It depends only on finished runs, so an interrupted run finds the same images again.
    """
    workspace = workspace_of(config)
    with Workbench() as bench:
        rows = rows_here(config, manifest, config.score.splits)
        left = not_scored(bench, rows, scored_images(config, model.model_id))
        shards = cut_rows(left, config)
        settings = {**manifest.settings, "new": True}
        root = archive_root(config)
        return write_manifest(workspace, shards, settings, {}, bench.folder, root)


def select_unsettled(
    config: Config, model: ModelInfo, manifest: Snapshot, runs: Sequence[str], turn: int | None
) -> Snapshot:
    """Return a manifest of the images of a manifest that the runs of a night have not settled.

    Images that have changed since are left out, and those that another run of the model has settled
    after a turn: that of the newest run when the night before it was opened, None if that is not
    known. What an earlier run has settled was not new in this night. So it does not matter how many
    nights there were.
    """
    workspace = workspace_of(config)
    with Workbench() as bench:
        rows = rows_here(config, manifest, config.score.splits)
        missed = _rows_of(config, _heads(workspace, runs), UNSETTLED)
        since = None if turn is None else runs_since(workspace, turn)
        heads = list_runs(workspace) if since is None else _heads(workspace, since)
        left = not_scored(bench, rows, _settled_in(config, heads, model.model_id), missed)
        shards = cut_rows(left, config)
        settings = {**manifest.settings, "new": True}
        root = archive_root(config)
        return write_manifest(workspace, shards, settings, {}, bench.folder, root)


def scored_images(config: Config, model_id: str) -> Iterator[pa.Table]:
    """Yield the images whose status finished runs of a model have settled.

    Of runs that were pruned no images are known any more; a warning says that there are such.
    """
    workspace = workspace_of(config)
    heads = list_runs(workspace)
    there = [head.run_id for head in heads]
    stones = (
        unless_damaged(lambda: pruned_runs(workspace, there), "it is not known what went") or ()
    )
    gone = [stone for stone in stones if stone.model_id == model_id]
    if gone:
        logger.warning(
            "a prune (retention.runs) has removed %s of model %s: what was scored there counts as "
            "new, and is scored again; 'since' of the flow 'backfill' leaves out what is older",
            counted(len(gone), "run"),
            model_id,
        )
    return _settled_in(config, heads, model_id)


def _settled_in(config: Config, runs: Iterable[RunHead], model_id: str) -> Iterator[pa.Table]:
    own = [head for head in runs if head.model_id == model_id and head.is_finished]
    return _rows_of(config, own, SETTLED)


def _heads(workspace: Workspace, runs: Iterable[str]) -> list[RunHead]:
    """Return the heads of runs; those that are gone or damaged are left out, with a warning."""
    reads = (Run(workspace, run).find_head for run in dict.fromkeys(runs))
    return [head for head in map(unless_damaged, reads) if head]


def _rows_of(
    config: Config, runs: Sequence[RunHead], statuses: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the images of some runs whose status is one of these, where they are now."""
    wanted, workspace = pa.array(statuses), workspace_of(config)
    for head in runs:
        tables = Run(workspace, head.run_id).scores.read([*SCORED_SCHEMA.names, "status"])
        for table in scored_here(config, head.snapshot, tables):
            yield table.filter(pc.is_in(table["status"], value_set=wanted))
