"""Export: regions for labelling, as CSV, COCO or a FiftyOne data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

import duckdb

from padim_dist.api.analysis.fiftyone_export import make_fiftyone_set
from padim_dist.api.analysis.query import draft, write_csv, write_json
from padim_dist.api.analysis.views import run_views
from padim_dist.api.settings.lookup import progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.redaction import redacted
from padim_dist.store.run import RunHead
from padim_dist.store.run_tables import REGIONS_SCHEMA

FORMATS = ("csv", "coco", "fiftyone")


@dataclass(frozen=True)
class ExportResult:
    """The file that was written, and its numbers of regions and of images with regions."""

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
    name: str | None = None,
    all_images: bool = False,
) -> ExportResult:
    """Write the regions of a run to a file, a batch at a time.

    Parameters
    ----------
    config : Config or path
        The configuration.
    format : str
        ``"csv"``: the table of regions. ``"coco"``: detections as in the COCO data set, with a
        category for each group; `file_name` is the path in the archive. ``"fiftyone"``: a data set
        in FiftyOne's database with images, heatmaps, regions, p-values and verdicts; `label` reads
        its tags.
    out : str
        Path of the file, which is written completely or not at all. For FiftyOne a folder for
        heatmaps and copies of images, which the data set needs.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    name : str, optional
        Name of the FiftyOne data set; by default ``padim-dist-<run id>``.
    all_images : bool, optional
        Put all scored images into the FiftyOne data set, not only flagged and reviewed ones.

    Raises
    ------
    RequestError
        If there is no such run or format.

    Examples
    --------
    >>> export(config, format="coco", out="regions.json").regions      # doctest: +SKIP
    12
    """
    if format not in FORMATS:
        raise RequestError(f"format {format!r} is none of {', '.join(FORMATS)}")
    config = as_config(config)
    head, connection = run_views(config, run)
    if format == "fiftyone":
        made = make_fiftyone_set(config, head, connection, out, name, all_images)
        notes = [*progress_note(head), f"FiftyOne data set {made.name!r}"]
        return ExportResult(head.run_id, made.images, made.regions, notes, out)
    numbers = connection.sql("SELECT count(DISTINCT image_id), count(*) FROM regions")
    ((images, regions),) = numbers.fetchall()
    notes = progress_note(head)
    if not regions:
        notes += [f"run {head.run_id} has no regions: no image is flagged, or it has no p-values"]
    with draft(out) as path, path.open("w", newline="", encoding="utf-8") as file:
        if format == "csv":
            columns = ", ".join(f'"{name}"' for name in REGIONS_SCHEMA.names)
            query = f"SELECT {columns} FROM regions ORDER BY shard, image_id, region"
            write_csv(connection.execute(query), REGIONS_SCHEMA.names, file)
        else:
            _write_coco(connection, file, head, f"{redacted(archive_of(config).url)}/")
    return ExportResult(head.run_id, images, regions, notes, out)


def _write_coco(
    connection: duckdb.DuckDBPyConnection, file: TextIO, head: RunHead, archive: str
) -> None:
    """Write images, annotations and categories while they are read."""
    connection.execute(_NUMBERED)
    connection.execute("SET VARIABLE archive = ?", [archive])
    now = datetime.now(UTC)
    info = {
        "description": f"regions of padim-dist run {head.run_id}",
        "version": head.run_id,
        "year": now.year,
        "date_created": now.isoformat(timespec="seconds"),
    }
    file.write(f'{{"info": {json.dumps(info)},\n"licenses": []')
    for name, query in _LISTS.items():
        file.write(f',\n"{name}": ')
        found = connection.execute(query)
        write_json(found, [column for column, *_ in found.description or ()], file)
    file.write("}\n")


# Numbers of images and groups, made once so that the lists of the file agree.
_NUMBERED = """
CREATE TEMP TABLE listed AS
SELECT row_number() OVER (ORDER BY image_id) AS number, *
FROM (SELECT image_id, uri, member, width, height FROM scores
      WHERE image_id IN (SELECT image_id FROM regions));
CREATE TEMP TABLE kinds AS
SELECT row_number() OVER (ORDER BY "group") AS number, "group"
FROM (SELECT DISTINCT "group" FROM regions);
"""
_LISTS = {
    "categories": """
        SELECT number AS id, coalesce("group", 'anomaly') AS name, 'anomaly' AS supercategory
        FROM kinds ORDER BY id""",
    "images": """
        SELECT number AS id, coalesce(member, CASE WHEN starts_with(uri, getvariable('archive'))
                   THEN substr(uri, length(getvariable('archive')) + 1) ELSE uri END) AS file_name,
               width, height, uri, image_id
        FROM listed ORDER BY id""",
    "annotations": """
        SELECT row_number() OVER (ORDER BY listed.number, region) AS id, listed.number AS image_id,
               kinds.number AS category_id, ["left", "top", "right" - "left", "bottom" - "top"]
                   AS bbox, area,
               [["left", "top", "right", "top", "right", "bottom", "left", "bottom"]]
                   AS segmentation, 0 AS iscrowd, peak AS score, p_value
        FROM regions JOIN listed USING (image_id)
        JOIN kinds ON kinds."group" IS NOT DISTINCT FROM regions."group" ORDER BY id""",
}
