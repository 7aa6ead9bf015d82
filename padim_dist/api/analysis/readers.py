"""Public readers: models, score tables, regions, heatmaps, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from padim_dist.api.settings.lookup import choose_run, newest_model
from padim_dist.api.settings.places import ConfigLike, locate
from padim_dist.api.sql.tables import open_table
from padim_dist.errors import RequestError
from padim_dist.storage import Folder, Options
from padim_dist.store.arrays import store_at
from padim_dist.store.models import find_model
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import REGIONS, SCORES
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

if TYPE_CHECKING:
    import xarray as xr

    from padim_dist.store.gaussians import Model


def open_model(where: ConfigLike, storage_options: Options | None = None) -> Model:
    """Open a model.

    Parameters
    ----------
    where : Config, str or path
        A configuration, the path of its YAML file or the URL of a workspace: its newest model; or
        the URL of a ``models/<model_id>.zarr``.
    storage_options : mapping, optional
        fsspec options by protocol, for a URL.

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
    from padim_dist.store.gaussians import Model

    folder, _ = locate(where, storage_options)
    if folder.url.endswith(".zarr"):
        root, _, name = folder.url.rpartition("/models/")
        return Model(Workspace(Folder(root, folder.options)), name.removesuffix(".zarr"))
    workspace = Workspace(folder)
    return Model(workspace, newest_model(workspace).model_id)


def open_scores(
    where: ConfigLike | list[str] | tuple[str, ...], storage_options: Options | None = None
) -> duckdb.DuckDBPyRelation:
    """Open the score table of a run, or of several runs as one, as a DuckDB relation.

    Parameters
    ----------
    where : Config, str or path, or list of str
        A configuration, the path of its YAML file or the URL of a workspace: its newest finished
        run; or the URL of a run, or of several runs of one workspace.
    storage_options : mapping, optional
        fsspec options by protocol, for URLs.

    Returns
    -------
    duckdb.DuckDBPyRelation
        Columns as in docs/formats.md, read on demand.

    Raises
    ------
    RequestError
        If there is no such run, or no shard of a run is finished.

    Examples
    --------
    >>> scores = open_scores("./audit/bottle")                # doctest: +SKIP
    >>> scores.filter("status = 'scored'").order("score desc").limit(3).df()  # doctest: +SKIP
    """
    return _open_table(SCORES, where, storage_options)


def open_regions(
    where: ConfigLike | list[str] | tuple[str, ...], storage_options: Options | None = None
) -> duckdb.DuckDBPyRelation:
    """Open the regions of a run, or of several runs as one, as a DuckDB relation.

    Parameters
    ----------
    where, storage_options
        As in `open_scores`, with the same errors.

    Returns
    -------
    duckdb.DuckDBPyRelation
        A row for each region of an anomaly map above its threshold; columns as in docs/formats.md.

    Examples
    --------
    >>> regions = open_regions("./audit/bottle")                  # doctest: +SKIP
    >>> regions.filter("area > 100").order("p_value").limit(3).df()   # doctest: +SKIP
    """
    return _open_table(REGIONS, where, storage_options)


def open_heatmaps(where: ConfigLike, storage_options: Options | None = None) -> xr.Dataset:
    """Open the heatmaps of a run as an xarray Dataset, one row per scored image.

    Parameters
    ----------
    where : Config, str or path
        A configuration, the path of its YAML file or the URL of a workspace: its newest finished
        run; or the URL of a run.
    storage_options : mapping, optional
        fsspec options by protocol, for a URL.

    Returns
    -------
    xarray.Dataset
        ``distance`` (row, y, x), float16, read on demand; coordinates image_id, uri, group, label,
        score, image_height and image_width along ``row``, and shift_y, shift_x and angle of a model
        that aligns images. ``dataset.padim.full()`` gives anomaly
        maps at the size of the trunk's input, ``full(original=True)`` at that of the original, and
        ``dataset.padim.to_original(y, x)`` the pixels of the originals.

    Raises
    ------
    RequestError
        If there is no such run, or it kept no heatmaps.

    Examples
    --------
    >>> maps = open_heatmaps("./audit/bottle")                    # doctest: +SKIP
    >>> maps.sortby("score").isel(row=[-1]).padim.full().shape    # doctest: +SKIP
    (1, 256, 256)
    """
    from padim_dist.api.analysis.accessor import MOTION  # also registers ``dataset.padim``

    run, head = _find_run(where, storage_options)
    if why := run.why_no_heatmaps():
        raise RequestError(why)
    rows = (
        open_table(SCORES, [(run, head)])
        .filter("heatmap_row is not null")
        .project(
            'heatmap_row, image_id, uri, "group", label, score, height AS image_height, '
            "width AS image_width, shift_y, shift_x, angle"
        )
        .order("heatmap_row")
        .fetchnumpy()
    )
    dataset = _open_zarr(run, run.heatmaps.path).isel(row=np.asarray(rows["heatmap_row"], np.int64))
    info = find_model(run.workspace, head.model_id)
    if info is None:
        raise RequestError(f"model {head.model_id} of run {run.url} is gone; restore it")
    geometry = info.embedding.geometry
    height, width = geometry.crop
    names = ["image_id", "uri", "group", "label", "score", "image_height", "image_width"]
    names += MOTION if info.embedding.align else ()
    columns = {name: ("row", _with_none(rows[name])) for name in names}
    labelled: xr.Dataset = dataset.assign_coords(columns).assign_attrs(
        height=height,
        width=width,
        resize=geometry.resize,
        sigma=info.sigma,
        run_id=head.run_id,
    )
    return labelled


def open_drift(where: ConfigLike, storage_options: Options | None = None) -> xr.Dataset:
    """Open the drift of a run as an xarray Dataset.

    Parameters
    ----------
    where, storage_options
        As in `open_heatmaps`.

    Returns
    -------
    xarray.Dataset
        ``ratio`` (group, y, x), float32: squared drift of each patch, divided by its expected value
        for an unchanged scene; ``drift``, ``expected``, ``noise`` and ``z`` (group): see
        `padim_dist.core.drift.Drift`. Groups that were not measured are left out.

    Raises
    ------
    RequestError
        If nothing was measured: the run is not finished, or its model has no calibration.

    Examples
    --------
    >>> open_drift("./audit/bottle").ratio.max("group").plot()    # doctest: +SKIP
    """
    run, head = _find_run(where, storage_options)
    if not head.drift:
        raise RequestError(
            f"run {run.url} has no drift: it is not finished, or its model was fitted with "
            "fit.sample: 0, or on fewer than three images"
        )
    dataset = _open_zarr(run, run.drift.maps_path)
    groups = dataset.attrs.pop("groups")
    measured = dataset.assign_coords(group=groups).sel(group=list(head.drift))
    columns = {
        name: ("group", [getattr(figures, name) for figures in head.drift.values()])
        for name in ("drift", "expected", "noise", "z")
    }
    found: xr.Dataset = measured.assign(columns)
    return found


def _open_table(
    table: str, where: ConfigLike | list[str] | tuple[str, ...], options: Options | None
) -> duckdb.DuckDBPyRelation:
    asked = list(where) if isinstance(where, (list, tuple)) else [where]
    if not asked:
        raise RequestError("no run was asked for: give the URL of one")
    return open_table(table, [_find_run(one, options) for one in asked])


def _find_run(where: ConfigLike, options: Options | None) -> tuple[Run, RunHead]:
    """Return the run at a URL, or the newest finished run of a workspace."""
    folder, _ = locate(where, options)
    root, runs, run_id = folder.url.rpartition("/runs/")
    if runs:
        run = Run(Workspace(Folder(root, folder.options)), run_id)
        head = run.find_head()
        if head is not None:
            return run, head
    workspace = Workspace(folder)
    if not folder.exists(workspace.runs):
        raise RequestError(
            f"{folder.url} is neither a run nor a workspace with one; 'padim-dist score' makes one"
        )
    head = choose_run(workspace, None)
    return Run(workspace, head.run_id), head


def _open_zarr(run: Run, path: str) -> xr.Dataset:
    """Open a Zarr group of a run as a dataset, read on demand."""
    import xarray as xr

    store, options = store_at(run.workspace, path)
    dataset: xr.Dataset = xr.open_zarr(
        store, chunks=None, consolidated=False, storage_options=options
    )
    return dataset


def _with_none(values: Any) -> Any:
    """Return a column of DuckDB with None for null."""
    if not np.ma.is_masked(values):
        return np.asarray(values)
    filled = np.ma.getdata(values).astype(object)
    filled[np.ma.getmaskarray(values)] = None
    return filled
