"""Export: regions for labelling, as CSV or COCO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

import duckdb

from padim_dist.api.analysis.coco.file import write_coco
from padim_dist.api.analysis.query import draft, write_csv
from padim_dist.api.settings.lookup import progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config
from padim_dist.api.sql.views import run_views
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.runs.rows import REGIONS_SCHEMA

FORMATS = ("csv", "coco")


@dataclass(frozen=True)
class ExportResult:
    """The file that was written, and its numbers of images and regions; `notes` are remarks."""

    run_id: str
    images: int
    regions: int
    notes: list[str]
    file: str


def export(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    format: str,
    out: str,
    run: str | None = None,
    all_images: bool = False,
    min_area: float = 0.0,
) -> ExportResult:
    """Write the regions of a run to a file, a batch at a time.

    Parameters
    ----------
    config : Config or path
        The configuration.
    format : str
        ``"csv"``: the table of regions. ``"coco"``: annotations as in the COCO data set, of the
        category ``anomaly``, with polygons around the regions; `file_name` is the path in the
        archive. If the run kept no heatmaps, the polygons are the boxes of the regions.
    out : str
        Path of the file, which is written completely or not at all.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    all_images : bool, optional
        List all scored images in a COCO file, also those without regions.
    min_area : float, optional
        Leave out smaller regions: pixels of the original image.

    Raises
    ------
    RequestError
        If there is no such run or format, or an option does not go with the format.

    Examples
    --------
    >>> export(config, format="coco", out="regions.json").regions      # doctest: +SKIP
    12
    """
    if format not in FORMATS:
        raise RequestError(f"format {format!r} is none of {', '.join(FORMATS)}")
    if all_images and format != "coco":
        raise RequestError(f"--all is for --format coco: {format} has a row for each region only")
    config = as_config(config)
    head, connection = run_views(config, run)
    notes = progress_note(head)
    with draft(out) as path, path.open("w", newline="", encoding="utf-8") as file:
        if format == "csv":
            images, regions = _write_csv(connection, file, min_area)
        else:
            archive = archive_of(config).url
            made = write_coco(connection, file, config, head, archive, all_images, min_area)
            images, regions = made.images, made.annotations
            notes += made.notes
    if not regions:
        reason = (
            f"no region of run {head.run_id} has {min_area:g} pixels"
            if connection.execute("FROM regions LIMIT 1").fetchone()
            else f"run {head.run_id} has no regions: no image is flagged, or it has no p-values"
        )
        notes.append(reason)
    return ExportResult(head.run_id, images, regions, notes, out)


def _write_csv(
    connection: duckdb.DuckDBPyConnection, file: TextIO, min_area: float
) -> tuple[int, int]:
    """Write the table of regions; return its numbers of images and rows."""
    where, values = "FROM regions WHERE area >= ?", [min_area]
    found = connection.execute(f"SELECT count(DISTINCT image_id), count(*) {where}", values)
    ((images, regions),) = found.fetchall()
    columns = ", ".join(f'"{name}"' for name in REGIONS_SCHEMA.names)
    query = f"SELECT {columns} {where} ORDER BY shard, image_id, region"
    write_csv(connection.execute(query, values), REGIONS_SCHEMA.names, file)
    return images, regions
