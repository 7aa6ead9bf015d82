"""Rows of a run's tables: schemas and row types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

SCORES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("score", pa.float32()),
        ("p_value", pa.float64()),
        ("flagged", pa.bool_()),
        ("p_extrapolated", pa.bool_()),
        ("peak_y", pa.int32()),
        ("peak_x", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("heatmap_row", pa.int64()),
        ("shard", pa.int32()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata={"padim_dist.scores": "2"},
)
REGIONS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("group", pa.string()),
        ("label", pa.string()),
        ("region", pa.int32()),
        ("area", pa.int64()),
        ("top", pa.int32()),
        ("left", pa.int32()),
        ("bottom", pa.int32()),
        ("right", pa.int32()),
        ("peak", pa.float32()),
        ("peak_y", pa.int32()),
        ("peak_x", pa.int32()),
        ("p_value", pa.float64()),
        ("shard", pa.int32()),
        ("run_id", pa.string()),
        ("model_id", pa.string()),
    ],
    metadata={"padim_dist.regions": "1"},
)


@dataclass
class ScoreRow:
    """A row of the score table: `SCORES_SCHEMA` as a type; see docs/formats.md."""

    image_id: str
    uri: str
    member: str | None
    etag: str | None
    group: str | None
    split: str
    label: str | None
    status: str
    error: str | None
    width: int | None
    height: int | None
    shard: int
    run_id: str
    model_id: str
    scored_at: datetime
    score: float | None = None
    p_value: float | None = None
    flagged: bool | None = None
    p_extrapolated: bool | None = None
    peak_y: int | None = None
    peak_x: int | None = None
    heatmap_row: int | None = None


@dataclass
class RegionRow:
    """A row of the table of regions: `REGIONS_SCHEMA` as a type."""

    image_id: str
    uri: str
    member: str | None
    group: str | None
    label: str | None
    region: int
    area: int
    top: int
    left: int
    bottom: int
    right: int
    peak: float
    peak_y: int
    peak_x: int
    p_value: float | None
    shard: int
    run_id: str
    model_id: str
