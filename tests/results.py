"""The results of a run, in a form that can be compared bit for bit."""

from __future__ import annotations

import numpy as np

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.storage import Folder
from padim_dist.store.arrays import open_zarr_group
from padim_dist.store.workspace import Workspace

Arrays = dict[str, np.ndarray]


def arrays(config: Config) -> Arrays:
    """Return all arrays of the newest model."""
    model = padim.open_model(config.workspace, config.storage_options)
    workspace = Workspace(Folder(config.workspace, config.storage_options))
    group = open_zarr_group(workspace, workspace.model(model.info.model_id), "r")
    return {
        f"{name}/{kind}/{array}": np.asarray(group[f"{name}/{kind}/{array}"][...])
        for name in model.groups
        for kind in ("moments", "gaussian", "calibration")
        if f"{name}/{kind}" in group
        for array in sorted(group[f"{name}/{kind}"].array_keys())
    }


def scores(config: Config) -> list[dict]:
    """Return the score rows, sorted, without times."""
    table = padim.open_scores(config.workspace, config.storage_options)
    return table.order("image_id").to_arrow_table().drop_columns(["scored_at"]).to_pylist()


def rows(config: Config) -> list[dict]:
    """Return score rows without their locations."""
    table = padim.open_scores(config.workspace, config.storage_options).to_arrow_table()
    keep = ("status", "error", "group", "label", "score", "peak_y", "peak_x", "width", "height")
    found = [{name: row[name] for name in keep} for row in table.to_pylist()]
    return sorted(found, key=str)


def same(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
