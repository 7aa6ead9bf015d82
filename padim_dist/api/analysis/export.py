"""Export: regions for labelling, as CSV or COCO."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import duckdb

from padim_dist.api.analysis.query import batches, draft, write_csv
from padim_dist.api.analysis.views import run_views
from padim_dist.api.settings.lookup import choose_run, progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config, workspace_of
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.run import RunHead
from padim_dist.store.run_rows import REGIONS_SCHEMA

FORMATS = ("csv", "coco")


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
) -> ExportResult:
    """Write the regions of a run to a file, a batch at a time.

    Parameters
    ----------
    config : Config or path
        The configuration.
    format : str
        ``"csv"``: the table of regions. ``"coco"``: detections as in the COCO data set, with a
        category for each group; `file_name` is the path in the archive.
    out : str
        Path of the file, which is written completely or not at all.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.

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
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    connection = run_views(workspace, head)
    counts = connection.execute("SELECT count(DISTINCT image_id), count(*) FROM regions").fetchone()
    assert counts is not None
    notes = progress_note(head)
    if not counts[1]:
        notes += [f"run {head.run_id} has no regions: no image is flagged, or it has no p-values"]
    with draft(out) as path, path.open("w", newline="", encoding="utf-8") as file:
        if format == "csv":
            _write_csv(connection, file)
        else:
            _write_coco(connection, file, head, f"{archive_of(config).url}/")
    images, regions = counts
    return ExportResult(head.run_id, images, regions, notes, out)


def _write_csv(connection: duckdb.DuckDBPyConnection, file: TextIO) -> None:
    columns = ", ".join(f'"{name}"' for name in REGIONS_SCHEMA.names)
    found = connection.execute(f"SELECT {columns} FROM regions ORDER BY shard, image_id, region")
    write_csv(found, REGIONS_SCHEMA.names, file)


def _write_coco(
    connection: duckdb.DuckDBPyConnection, file: TextIO, head: RunHead, archive: str
) -> None:
    """Write images, annotations and categories while they are read."""
    connection.execute(_NUMBERED)
    now = datetime.now(UTC)
    info = {
        "description": f"regions of padim-dist run {head.run_id}",
        "version": head.run_id,
        "year": now.year,
        "date_created": now.isoformat(timespec="seconds"),
    }
    file.write(f'{{"info": {json.dumps(info)},\n"licenses": [],\n"categories": [')
    _write_items(file, (_category(*row) for row in _rows(connection, _CATEGORIES)))
    file.write('],\n"images": [')
    _write_items(file, (_image(archive, *row) for row in _rows(connection, _IMAGES)))
    file.write('],\n"annotations": [')
    annotations = enumerate(_rows(connection, _ANNOTATIONS), start=1)
    _write_items(file, (_annotation(number, *row) for number, row in annotations))
    file.write("]}\n")


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    for rows in batches(connection.execute(query)):
        yield from rows


def _write_items(file: TextIO, items: Iterator[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        file.write(json.dumps(item))


def _category(number: int, group: str | None) -> dict[str, Any]:
    return {"id": number, "name": group or "anomaly", "supercategory": "anomaly"}


def _image(
    archive: str, number: int, uri: str, member: str | None, width: int, height: int, image_id: str
) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": member or uri.removeprefix(archive),
        "width": width,
        "height": height,
        "uri": uri,
        "image_id": image_id,
    }


def _annotation(
    number: int,
    image: int,
    category: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    area: int,
    peak: float,
    p_value: float | None,
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [left, top, right - left, bottom - top],
        "area": area,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
        "score": peak,
        "p_value": p_value,
    }


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
_CATEGORIES = "FROM kinds ORDER BY number"
_IMAGES = "SELECT number, uri, member, width, height, image_id FROM listed ORDER BY number"
_ANNOTATIONS = """
SELECT listed.number, kinds.number, "left", "top", "right", "bottom", area, peak, p_value
FROM regions JOIN listed USING (image_id)
JOIN kinds ON kinds."group" IS NOT DISTINCT FROM regions."group"
ORDER BY listed.number, region
"""
