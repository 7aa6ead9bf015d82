"""Rows and schemas of the tables of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime

import pyarrow as pa

from padim_dist.core.align.motion import Motion

Int64 = int
Float32 = float
"""Columns of other numbers are int32 and float64."""
_TYPES = {
    "str": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int32(),
    "Int64": pa.int64(),
    "float": pa.float64(),
    "Float32": pa.float32(),
    "datetime": pa.timestamp("us", tz="UTC"),
}
_COMPUTED = {"stored": False}


@dataclass(kw_only=True)
class ScoreRow:
    """A row of the score table; its attributes are the columns; see docs/formats.md.

    ``flagged`` is not stored: the rule of the run says it when the table is read.
    """

    image_id: str
    uri: str
    member: str | None
    etag: str | None
    group: str | None
    split: str
    label: str | None
    status: str
    error: str | None
    score: Float32 | None = None
    p_value: float | None = None
    flagged: bool | None = field(default=None, metadata=_COMPUTED)
    p_extrapolated: bool | None = None
    resolution: float | None = None
    left_out: bool | None = None
    peak_y: int | None = None
    peak_x: int | None = None
    score_fine: Float32 | None = None
    score_middle: Float32 | None = None
    score_coarse: Float32 | None = None
    width: int | None
    height: int | None
    bits: int | None = None
    grey: bool | None = None
    captured_at: datetime | None = None
    heatmap_row: Int64 | None = None
    shift_y: float | None = None
    shift_x: float | None = None
    angle: float | None = None
    aligned: Float32 | None = None
    shard: int
    run_id: str
    model_id: str
    scored_at: datetime

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the original image, of a row with a score."""
        assert self.height is not None
        assert self.width is not None
        return self.height, self.width

    @property
    def motion(self) -> Motion | None:
        """How the image lies against the reference; None if it was not aligned."""
        return motion_of(self.shift_y, self.shift_x, self.angle)


@dataclass
class RegionRow:
    """A row of the table of regions; its attributes are the columns; see docs/formats.md."""

    image_id: str
    uri: str
    member: str | None
    group: str | None
    label: str | None
    region: int
    area: Int64
    top: int
    left: int
    bottom: int
    right: int
    peak: Float32
    peak_y: int
    peak_x: int
    p_value: float | None
    shard: int
    run_id: str
    model_id: str


def motion_of(shift_y: float | None, shift_x: float | None, angle: float | None) -> Motion | None:
    """Return the motion in columns of a score table; None where they are null."""
    if shift_y is None or shift_x is None or angle is None:
        return None
    return Motion(shift_y, shift_x, angle)


def _schema(row: type, name: str, version: str, computed: bool = False) -> pa.Schema:
    columns = [
        (f.name, _TYPES[str(f.type).removesuffix(" | None")])
        for f in fields(row)
        if computed or f.metadata != _COMPUTED
    ]
    return pa.schema(columns, metadata={f"padim_dist.{name}": version})


SCORES, REGIONS = "scores", "regions"
SCORES_SCHEMA = _schema(ScoreRow, SCORES, "3")
REGIONS_SCHEMA = _schema(RegionRow, REGIONS, "1")
SCHEMAS = {SCORES: SCORES_SCHEMA, REGIONS: REGIONS_SCHEMA}
"""Columns of the tables as they are stored."""
READ_SCHEMAS = {**SCHEMAS, SCORES: _schema(ScoreRow, SCORES, "3", computed=True)}
"""Columns of the tables as they are read."""
