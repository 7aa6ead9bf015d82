"""COCO detections: regions of a run as polygons, for labelling tools."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, TextIO

import duckdb

from padim_dist.api.analysis.query import batches, write_json
from padim_dist.api.sql.events import IS_FRAME
from padim_dist.api.sql.tables import quoted
from padim_dist.config import Config
from padim_dist.core.align.motion import Motion
from padim_dist.redaction import redacted
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import RegionRow, motion_of

if TYPE_CHECKING:
    from padim_dist.api.analysis.coco.outlines import Outline


@dataclass(frozen=True)
class CocoCounts:
    """Images and annotations of a file; remarks on outlines that are boxes."""

    images: int
    annotations: int
    notes: list[str]


@dataclass(frozen=True)
class MarkedImage:
    """An image of a COCO file: its number there, size, heatmap and regions, and how it lies."""

    number: int
    heatmap_row: int | None
    height: int
    width: int
    regions: list[RegionRow]
    motion: Motion | None = None


def write_coco(
    connection: duckdb.DuckDBPyConnection,
    file: TextIO,
    config: Config,
    head: RunHead,
    archive: str,
    all_images: bool,
    min_area: float,
) -> CocoCounts:
    """Write annotations and images while they are read.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        With the views ``scores`` and ``regions`` of the run.
    file : text file
        Receives the JSON object.
    config, head : Config, RunHead
        Where the workspace is, and the run.
    archive : str
        URL of the archive, which file names leave out.
    all_images : bool
        Whether scored images without annotations are listed too.
    min_area : float
        Smallest area of an annotation, in pixels of the original.
    """
    connection.execute(_LISTED)
    now = datetime.now(UTC)
    info = {
        "description": f"regions of padim-dist run {head.run_id}",
        "version": head.run_id,
        "year": now.year,
        "date_created": now.isoformat(timespec="seconds"),
    }
    category = {"id": 1, "name": "anomaly", "supercategory": "anomaly"}
    file.write(f'{{"info": {json.dumps(info)},\n"licenses": [],\n')
    file.write(f'"categories": [{json.dumps(category)}],\n"annotations": ')
    annotated, annotations, notes = _write_annotations(connection, file, config, head, min_area)
    if not all_images:
        connection.execute(
            "DELETE FROM listed WHERE number NOT IN (SELECT unnest(?::INTEGER[]))", [annotated]
        )
    connection.execute("SET VARIABLE archive = ?", [f"{redacted(archive)}/"])
    file.write(',\n"images": ')
    found = connection.execute(_IMAGES)
    images = write_json(found, [column for column, *_ in found.description or ()], file)
    file.write("}\n")
    return CocoCounts(images, annotations, notes)


def _write_annotations(
    connection: duckdb.DuckDBPyConnection,
    file: TextIO,
    config: Config,
    head: RunHead,
    min_area: float,
) -> tuple[list[int], int, list[str]]:
    """Write the annotations; return the numbers of their images, their number, and remarks."""
    marked = _read(connection)
    first = next(marked, None)
    if first is None:
        file.write("[]")
        return [], 0, []
    from padim_dist.api.analysis.coco.outlines import RegionTracer  # imports torch

    tracer = RegionTracer(config, head)
    annotated: dict[int, None] = {}
    number = 0
    for image, region, outline in tracer.trace(chain([first], marked)):
        if outline.area >= min_area:
            number += 1
            annotated[image.number] = None
            file.write("[\n" if number == 1 else ",\n")
            file.write(json.dumps(_annotation(number, image.number, region, outline)))
    file.write("\n]" if number else "[]")
    return list(annotated), number, tracer.notes


def _annotation(number: int, image: int, region: RegionRow, outline: Outline) -> dict[str, Any]:
    left, top, right, bottom = outline.box
    # Higher is more anomalous, as for a detector, and groups can be compared.
    score = None if region.p_value is None else round(-math.log10(max(region.p_value, 1e-300)), 4)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [round(side, 2) for side in (left, top, right - left, bottom - top)],
        "area": round(outline.area, 2),
        "segmentation": [ring[:-1].round(2).ravel().tolist() for ring in outline.rings],
        "iscrowd": 0,
        "score": score,
        "p_value": region.p_value,
        "peak": region.peak,
        "region": region.region,
    }


def _read(connection: duckdb.DuckDBPyConnection) -> Iterator[MarkedImage]:
    """Yield images with regions, in the order of their heatmaps."""
    own = ", ".join(f"regions.{quoted(column.name)}" for column in fields(RegionRow))
    found = connection.execute(
        f"SELECT number, heatmap_row, height, width, shift_y, shift_x, angle, {own} "
        "FROM regions JOIN listed USING (image_id) ORDER BY number, region"
    )
    rows = (row for some in batches(found) for row in some)
    for image, some in groupby(rows, key=lambda row: row[:7]):
        number, heatmap_row, height, width, *motion = image
        regions = [RegionRow(*row[7:]) for row in some]
        yield MarkedImage(number, heatmap_row, height, width, regions, motion_of(*motion))


_LISTED = """
CREATE TEMP TABLE listed AS
SELECT (row_number() OVER (ORDER BY heatmap_row, uri, member))::INTEGER AS number,
       image_id, uri, member, "group", label, width, height, heatmap_row, score, p_value,
       shift_y, shift_x, angle
FROM scores WHERE status = 'scored'
"""
"""Scored images with the number that they have in the file."""
_IMAGES = f"""
SELECT number AS id, CASE WHEN member IS NOT NULL AND NOT {IS_FRAME} THEN member
           WHEN starts_with(uri, getvariable('archive'))
           THEN substr(uri, length(getvariable('archive')) + 1) || coalesce('/' || member, '')
           ELSE uri || coalesce('/' || member, '') END AS file_name,
       width, height, uri, image_id, "group", label, score, p_value
FROM listed ORDER BY number
"""
