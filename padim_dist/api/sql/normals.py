"""The view ``normals``: the normal images behind all models."""

from __future__ import annotations

import duckdb

from padim_dist.api.sql.tables import files_query
from padim_dist.store.models import list_models
from padim_dist.store.normals import NORMALS_SCHEMA, normals_files
from padim_dist.store.workspace import Workspace


def add_normals(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Add the view ``normals``: a row for each normal image of each model that knows its images."""
    files = normals_files(workspace, list_models(workspace))
    if files:
        connection.execute(f"CREATE VIEW normals AS SELECT * FROM {files_query(files)}")
    else:
        connection.register("normals", NORMALS_SCHEMA.empty_table())
