"""The view ``normals``: the normal images behind all models."""

from __future__ import annotations

import duckdb

from padim_dist.api.settings.places import logger
from padim_dist.api.sql.flags import literal
from padim_dist.store.models import list_models
from padim_dist.store.normals import NORMALS_SCHEMA, find_damaged_normals, normals_files
from padim_dist.store.workspace import Workspace


def add_normals(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Add the view ``normals``: a row for each normal image of each model that knows its images.

    Damaged tables are left out, with a warning.
    """
    files = normals_files(workspace, list_models(workspace))
    if files:
        try:
            connection.execute(_view(files))
            return
        except duckdb.Error:
            damaged = {one.file: one.found for one in find_damaged_normals(workspace, files)}
            for file, found in damaged.items():
                logger.warning("%s is damaged: %s; it is left out", file, found)
            if files := [file for file in files if file not in damaged]:
                connection.execute(_view(files))
                return
    connection.register("normals", NORMALS_SCHEMA.empty_table())


def _view(files: list[str]) -> str:
    # All files have one schema: only the first is opened before a query.
    return f"CREATE VIEW normals AS SELECT * FROM read_parquet([{', '.join(map(literal, files))}])"
