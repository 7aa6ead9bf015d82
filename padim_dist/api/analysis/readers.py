"""Public readers: models, score tables, heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import torch
import xarray as xr

from padim_dist.api.analysis.tables import open_connection, table_query
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.errors import RequestError
from padim_dist.storage import Folder, Options
from padim_dist.store.models import Model, list_models
from padim_dist.store.run import list_runs
from padim_dist.store.run_tables import REGIONS, SCORES, table_files
from padim_dist.store.workspace import Workspace


def open_model(url: str, storage_options: Options | None = None) -> Model:
    """Open a model.

    Parameters
    ----------
    url : str
        A ``models/<model_id>.zarr``, or a workspace: then its newest model.
    storage_options : mapping, optional
        fsspec options by protocol.

    Raises
    ------
    RequestError
        If there is no finished model.

    Examples
    --------
    >>> model = open_model("./audit/bottle")      # doctest: +SKIP
    >>> model.covariance(28, 28).shape            # doctest: +SKIP
    (100, 100)
    """
    folder = Folder(url, storage_options or {})
    if folder.url.endswith(".zarr"):
        parent, _, name = folder.url.rpartition("/")
        return Model(Folder(parent, folder.options), name)
    models = list_models(Workspace(folder))
    if not models:
        raise RequestError(f"{folder.url} is neither a model nor a workspace with one")
    return Model(folder, Workspace(folder).model(models[-1].model_id))


def open_scores(
    url: str | Sequence[str], storage_options: Options | None = None
) -> duckdb.DuckDBPyRelation:
    """Open a score table, or several as one, as a DuckDB relation.

    Parameters
    ----------
    url : str or sequence of str
        A run's folder, or a workspace: then its newest run. Several: of one storage.
    storage_options : mapping, optional
        fsspec options by protocol.

    Returns
    -------
    duckdb.DuckDBPyRelation
        Columns as in docs/formats.md; nothing is read before it is asked for.

    Examples
    --------
    >>> scores = open_scores("./audit/bottle")                # doctest: +SKIP
    >>> scores.filter("status = 'scored'").order("score desc").limit(3).df()  # doctest: +SKIP
    """
    return _open_table(SCORES, url, storage_options)


def open_regions(
    url: str | Sequence[str], storage_options: Options | None = None
) -> duckdb.DuckDBPyRelation:
    """Open the regions of a run, or of several, as a DuckDB relation.

    Parameters
    ----------
    url, storage_options
        As in `open_scores`.

    Returns
    -------
    duckdb.DuckDBPyRelation
        A row a region of an anomaly map that is above its threshold; columns as in
        docs/formats.md. Empty where nothing was found.

    Raises
    ------
    RequestError
        If no shard of a run is finished.

    Examples
    --------
    >>> regions = open_regions("./audit/bottle")                  # doctest: +SKIP
    >>> regions.filter("area > 100").order("p_value").limit(3).df()   # doctest: +SKIP
    """
    return _open_table(REGIONS, url, storage_options)


def open_heatmaps(url: str, storage_options: Options | None = None) -> xr.Dataset:
    """Open the heatmaps of a run as an xarray Dataset, one row a scored image.

    Parameters
    ----------
    url : str
        A run's folder, or a workspace: then its newest run.
    storage_options : mapping, optional
        fsspec options by protocol.

    Returns
    -------
    xarray.Dataset
        ``distance`` (row, y, x), float16, read when asked for; coordinates image_id,
        uri, group, label and score along ``row``. ``dataset.padim.full()`` gives
        full-size anomaly maps.

    Raises
    ------
    RequestError
        If the run kept no heatmaps.

    Examples
    --------
    >>> maps = open_heatmaps("./audit/bottle")                    # doctest: +SKIP
    >>> maps.sortby("score").isel(row=[-1]).padim.full().shape    # doctest: +SKIP
    (1, 224, 224)
    """
    folder, run = _run(url, storage_options)
    if not folder.exists(f"{run}/heatmaps.zarr"):
        raise RequestError(f"run {folder.at(run)} kept no heatmaps (score.heatmaps: none)")
    rows = (
        open_scores(folder.at(run), folder.options)
        .filter("heatmap_row is not null")
        .project('heatmap_row, image_id, uri, "group", label, score')
        .order("heatmap_row")
        .fetchnumpy()
    )
    dataset = _open_zarr(folder, f"{run}/heatmaps.zarr").isel(
        row=np.asarray(rows["heatmap_row"], np.int64)
    )
    head = folder.read_json(f"{run}/run.json")
    workspace = Folder(folder.at(run).rsplit("/runs/", 1)[0], folder.options)
    info = Model(workspace, Workspace(workspace).model(head["model_id"])).info
    crop = info.embedding.geometry.crop
    names = ("image_id", "uri", "group", "label", "score")
    columns = {name: ("row", _with_none(rows[name])) for name in names}
    labelled: xr.Dataset = dataset.assign_coords(columns).assign_attrs(
        height=crop[0], width=crop[1], sigma=info.sigma, run_id=head["run_id"]
    )
    return labelled


def open_drift(url: str, storage_options: Options | None = None) -> xr.Dataset:
    """Open the drift of a run as an xarray Dataset.

    Parameters
    ----------
    url : str
        A run's folder, or a workspace: then its newest run.
    storage_options : mapping, optional
        fsspec options by protocol.

    Returns
    -------
    xarray.Dataset
        ``ratio`` (group, y, x), float32: squared drift of each patch over what is expected of
        an unchanged scene; ``drift``, ``expected``, ``noise`` and ``z`` (group): see
        `padim_dist.core.drift.Drift`. Groups that were not measured are left out.

    Raises
    ------
    RequestError
        If nothing was measured: the run is not finished, or its model has no calibration.

    Examples
    --------
    >>> open_drift("./audit/bottle").ratio.max("group").plot()    # doctest: +SKIP
    """
    folder, run = _run(url, storage_options)
    figures = folder.read_json(f"{run}/run.json").get("drift")
    if not figures:
        raise RequestError(
            f"run {folder.at(run)} has no drift: it is not finished, or its model was fitted with "
            "fit.sample: 0, or on fewer than three images"
        )
    dataset = _open_zarr(folder, f"{run}/drift.zarr")
    measured = dataset.assign_coords(group=dataset.attrs.pop("groups")).sel(group=list(figures))
    columns = {
        name: ("group", [group[name] for group in figures.values()])
        for name in ("drift", "expected", "noise", "z")
    }
    found: xr.Dataset = measured.assign(columns)
    return found


@xr.register_dataset_accessor("padim")
class HeatmapAccessor:
    """``dataset.padim``: what heatmaps can do besides being an array."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def full(self) -> xr.DataArray:
        """Full-size anomaly maps (row, y, x), float32, at the size of the crop.

        All selected rows are computed: choose the rows first, e.g. with ``isel``.
        """
        grid = self._dataset["distance"].transpose("row", "y", "x")
        attrs: dict[str, Any] = dict(self._dataset.attrs)
        height, width = grid.shape[1:]
        size = (attrs["height"], attrs["width"])
        anomaly_map = AnomalyMap.build((height, width), size, attrs["sigma"])
        maps = anomaly_map.full(torch.from_numpy(grid.values.astype(np.float32)))
        coords = {name: c for name, c in self._dataset.coords.items() if c.dims == ("row",)}
        return xr.DataArray(maps.numpy(), coords, ("row", "y", "x"), name="anomaly_map")


def _open_table(
    table: str, url: str | Sequence[str], options: Options | None
) -> duckdb.DuckDBPyRelation:
    runs = []
    for one in [url] if isinstance(url, str) else url:
        folder, run = _run(one, options)
        workspace, head = Workspace(folder), folder.read_json(f"{run}/run.json")
        if not table_files(workspace, head["run_id"], SCORES):
            raise RequestError(f"run {folder.at(run)} has no finished shard yet; run 'score' again")
        runs.append((workspace, head))
    if not runs:
        raise RequestError("no run was asked for: give the URL of one")
    connection = open_connection(runs[0][0].folder)
    return connection.sql(table_query(connection, table, runs))


def _open_zarr(folder: Folder, path: str) -> xr.Dataset:
    """A Zarr group as a dataset, read when asked for."""
    dataset: xr.Dataset = xr.open_zarr(
        folder.at(path),
        chunks=None,
        consolidated=False,
        storage_options=None if folder.is_local else folder.protocol_options,
    )
    return dataset


def _run(url: str, options: Options | None) -> tuple[Folder, str]:
    """Workspace-like folder and the path of a run inside it."""
    folder = Folder(url, options or {})
    if folder.exists("run.json"):
        parent, _, run_id = folder.url.rpartition("/")
        workspace, _, runs = parent.rpartition("/")
        return Folder(workspace, folder.options), f"{runs}/{run_id}"
    found = list_runs(Workspace(folder))
    if not found:
        raise RequestError(f"{folder.url} is neither a run nor a workspace with one")
    return folder, Workspace(folder).run(found[-1]["run_id"])


def _with_none(values: Any) -> Any:
    """A column of DuckDB with None where it is null."""
    if not np.ma.is_masked(values):
        return np.asarray(values)
    filled = np.ma.getdata(values).astype(object)
    filled[np.ma.getmaskarray(values)] = None
    return filled
