"""Made-up nights to publish, and readers of the tables that have nothing of what writes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import padim_dist as padim
from padim_dist.api.settings.places import archive_title, workspace_of
from padim_dist.config import Config
from tests.api.nights import group, made_night, put_night
from tests.api.workspace import made_config, put_run, region_rows, score_rows

needs_iceberg = pytest.mark.skipif(
    find_spec("pyiceberg") is None, reason="SKIPPED PART: PyIceberg is not installed"
)
PLACES = ["hive", pytest.param("iceberg", marks=needs_iceberg)]
MOSTLY_HIVE = ["hive", pytest.param("iceberg", marks=[needs_iceberg, pytest.mark.slow])]
"""For what does not depend on the kind of tables: the slower kind is not in `make test`."""
WHICH = ("night", "run_id", "image_id")
SCORED = (
    *("uri", "member", "group", "label", "split", "etag", "status", "error", "score", "p_value"),
    *("flagged", "p_extrapolated", "resolution", "left_out", "peak_y", "peak_x", "width", "height"),
    *("bits", "grey", "shift_y", "shift_x", "angle", "aligned"),
    *("captured_at", "scored_at", "verdict", "kind", "model_id"),
)
REGION = (
    *("uri", "group", "label", "region", "area", "top", "left", "bottom", "right", "peak"),
    *("peak_y", "peak_x", "p_value", "model_id"),
)


def catalog(folder: Path) -> dict[str, str]:
    """Properties of a catalog in SQLite, with its tables in a folder."""
    return {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def publishing(tmp_path: Path, *places: str, **changes: Any) -> Config:
    """Return the configuration of an empty workspace that publishes to some places."""
    (tmp_path / "warehouse").mkdir(exist_ok=True)
    section: dict[str, Any] = {}
    if "hive" in places:
        section["hive"] = str(tmp_path / "tables")
    if "iceberg" in places:
        section["iceberg"] = {"catalog": catalog(tmp_path)}
    return made_config(
        str(tmp_path / "audit"), archive=str(tmp_path / "photos"), publish=section, **changes
    )


def add_night(
    config: Config, number: int, runs: Sequence[str] = (), images: int = 40, **head: Any
) -> None:
    """Write a finished night of some runs; they are made where the workspace has none."""
    for place, run_id in enumerate(runs):
        if not workspace_of(config).folder.exists(f"runs/{run_id}/run.json"):
            add_run(config, run_id, images, 100 * number + place, **head)
    groups = {"a": group(images=images)}
    day = str(date(2026, 11, 24) + timedelta(number))
    title = archive_title(config)
    put_night(config, made_night(number, groups, title, day=day, runs=list(runs)))


def add_run(config: Config, run_id: str, images: int = 40, seed: int = 0, **head: Any) -> None:
    """Write a finished run of some images, a few of them flagged."""
    lies = {
        "bits": 8,
        "grey": False,
        "shift_y": 1.5,
        "shift_x": -2.0,
        "angle": 3.25,
        "aligned": 0.75,
    }
    rows = [
        row | (lies if row["status"] == "scored" else {})
        for row in score_rows(run_id, images, seed)
    ]
    asked = {"archive": {"url": config.archive.url}}
    put_run(config, run_id, rows, regions=region_rows(rows), asked=asked, **head)


def read(config: Config, place: str, table: str = "images") -> pa.Table:
    """Read a published table: files in the layout of Hive by DuckDB, Iceberg by PyIceberg."""
    if place == "hive":
        files = f"{config.publish.hive}/{table}/*/*.parquet"
        if not any(Path(str(config.publish.hive)).glob(f"{table}/*/*.parquet")):
            return pa.table({"run_id": pa.array([], pa.string())})
        query = f"FROM read_parquet('{files}', hive_partitioning = true)"
        with duckdb.connect() as database:
            return database.sql(query).to_arrow_table()
    from pyiceberg.catalog import load_catalog

    settings = config.publish.iceberg
    assert settings
    name = settings.table if table == "images" else settings.regions
    return load_catalog(settings.name, **settings.catalog).load_table(str(name)).scan().to_arrow()


def rows_of(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return columns of a table as sorted rows."""
    columns = [table[name].to_pylist() for name in names]
    return sorted(zip(*columns, strict=True), key=repr)


def wanted(config: Config, view: str = "scores", where: str = "night IS NOT NULL") -> pa.Table:
    """Return what the workspace itself says of rows of a view."""
    database = padim.connect(config)
    query = (
        f"SELECT rows.*, nights.day::DATE AS day FROM {view} AS rows "
        f"LEFT JOIN nights USING (night) WHERE {where}"
    )
    return database.sql(query).to_arrow_table()


def check(config: Config, place: str, where: str = "night IS NOT NULL") -> None:
    """Compare the published tables with the views of the workspace, row by row."""
    for table, view, names in (("images", "scores", SCORED), ("regions", "regions", REGION)):
        own = (*WHICH, *names)
        assert rows_of(read(config, place, table), own) == rows_of(wanted(config, view, where), own)
