"""Which model and which images: what a score is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from padim_dist.api.nights.promotions import model_of_id, promoted_model
from padim_dist.api.pipeline.index import current_manifest, cut_rows
from padim_dist.api.settings.places import workspace_of
from padim_dist.api.settings.plans import find_model
from padim_dist.archive.listing.increments import SCORED_SCHEMA, not_scored
from padim_dist.archive.listing.workbench import Workbench
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.manifests import Snapshot, read_manifest, read_shards, write_manifest
from padim_dist.store.models import ModelInfo
from padim_dist.store.run import list_runs
from padim_dist.store.run_tables import read_images
from padim_dist.store.workspace import Workspace

PROMOTED = "promoted"
"""Stands for the promoted model's id."""
_SETTLED = pa.array(["scored", "unreadable", "too_large"])
"""Statuses that stay what they are as long as the object does. One that was missing may
come back."""


def choose_model(config: Config, asked: str | None) -> ModelInfo:
    """The model of an id, the promoted one, or (None) the newest of these settings.

    Raises
    ------
    RequestError
        If there is none, or its settings are not those of the configuration.
    """
    if asked is None:
        return find_model(config)
    return promoted_model(config) if asked == PROMOTED else model_of_id(config, asked)


def choose_manifest(config: Config, asked: str | None, listener: Listener = ignore) -> Snapshot:
    """The manifest of an id, or (None) the newest one; see `current_manifest`.

    Raises
    ------
    RequestError
        If there is no such manifest.
    """
    if asked is None:
        return current_manifest(config, listener)
    folder = workspace_of(config).folder
    found = read_manifest(folder, asked)
    if found is None:
        raise RequestError(
            f"workspace {folder.url} has no snapshot {asked!r}; 'padim-dist history' lists them"
        )
    return found


def select_new(config: Config, model: ModelInfo, manifest: Snapshot) -> Snapshot:
    """Of a manifest, the images that no finished run of a model has scored: a manifest too.

    It depends on the finished runs alone, so an interrupted run finds the same images again.
    """
    workspace = workspace_of(config)
    with Workbench() as bench:
        rows = read_shards(workspace.folder, manifest, config.score.splits)
        left = not_scored(bench, rows, scored_images(workspace, model.model_id))
        shards = cut_rows(left, config)
        settings = {**manifest.settings, "new": True}
        return write_manifest(workspace.folder, shards, settings, {}, bench.folder)


def scored_images(workspace: Workspace, model_id: str) -> Iterator[pa.Table]:
    """Images that finished runs of a model have settled."""
    for run in list_runs(workspace):
        if run["model_id"] == model_id and "finished_at" in run:
            for table in read_images(workspace, run["run_id"], [*SCORED_SCHEMA.names, "status"]):
                yield table.filter(pc.is_in(table["status"], value_set=_SETTLED))
