"""Columns of the published tables: the only place that names them, their types and their meaning.

Tables of Iceberg, files in the layout of Hive and the statements that make tables of these files
follow this list. A column may be added at any place; tables that exist get it. A column is never
renamed, and its type never changes: others have queries on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

VERSION = 2
"""Version of the columns: with a higher one, `publish` writes all nights again."""
DAY = "day"
"""The column that tables are partitioned by."""
RUN = "run_id"
"""Rows are replaced run by run."""
_TEXT, _INT, _LONG, _BOOL = pa.string(), pa.int32(), pa.int64(), pa.bool_()
_FLOAT, _DOUBLE = pa.float32(), pa.float64()
_TIME, _DATE = pa.timestamp("us", tz="UTC"), pa.date32()
_HIVE = {
    _TEXT: "string",
    _INT: "int",
    _LONG: "bigint",
    _BOOL: "boolean",
    _FLOAT: "float",
    _DOUBLE: "double",
    _TIME: "timestamp",
}
_TRINO = {**_HIVE, _TEXT: "varchar", _INT: "integer", _FLOAT: "real", _TIME: "timestamp(3)"}


@dataclass(frozen=True)
class Column:
    """A column of a published table: its name, type and meaning."""

    name: str
    type: pa.DataType
    meaning: str


_WHICH = (
    Column(DAY, _DATE, "Date (UTC) on which the night was opened; of no night: the run started"),
    Column("night", _LONG, "Number of the night; null: the run belongs to no night"),
    Column("archive", _TEXT, "Name of the archive"),
    Column(RUN, _TEXT, "Id of the run"),
    Column("model_id", _TEXT, "Id of the model"),
    Column("image_id", _TEXT, "Id of the image"),
    Column("path", _TEXT, "Path in the archive; of a member of a tar file also its name there"),
    Column("uri", _TEXT, "Address of the image, of its tar file, or of its film"),
    Column("member", _TEXT, "Name in the tar file, or time in the film; null: neither"),
    Column("group", _TEXT, "Group of the image"),
    Column("label", _TEXT, "Label of the image: good, or a kind of defect"),
)
IMAGES = (
    *_WHICH,
    Column("split", _TEXT, "Part of the data set: train or test"),
    Column("etag", _TEXT, "Tag of the content of the image in its store"),
    Column("status", _TEXT, "scored, or why there is no score: unreadable, missing, ..."),
    Column("error", _TEXT, "Reason in words; null: the image is scored"),
    Column("score", _FLOAT, "Anomaly score: the maximum of the anomaly map"),
    Column("p_value", _DOUBLE, "Share of normal images that score at least as high"),
    Column("p_extrapolated", _BOOL, "Whether the p-value is below the resolution"),
    Column("resolution", _DOUBLE, "Smallest p-value that the normal images of the group resolve"),
    Column("flagged", _BOOL, "Whether the rule of the run flags the image; null: not known"),
    Column("left_out", _BOOL, "Whether the score is a leave-one-out score of a normal image"),
    Column("peak_y", _INT, "Row of the maximum, in pixels of the image"),
    Column("peak_x", _INT, "Column of the maximum, in pixels of the image"),
    Column("score_fine", _FLOAT, "Part of the score from the finest level: texture and edges"),
    Column("score_middle", _FLOAT, "Part of the score from the middle levels"),
    Column("score_coarse", _FLOAT, "Part of the score from the coarsest level: arrangement"),
    Column("width", _INT, "Width in pixels"),
    Column("height", _INT, "Height in pixels"),
    Column("bits", _INT, "Bits of a sample; null: not known"),
    Column("grey", _BOOL, "Whether the image has no colours; null: not known"),
    Column("shift_y", _DOUBLE, "Shift down against the reference, in pixels of the resized image"),
    Column("shift_x", _DOUBLE, "Shift to the right against the reference, in the same pixels"),
    Column("angle", _DOUBLE, "Turn against the reference, in degrees counterclockwise"),
    Column(
        "aligned", _FLOAT, "Correlation with the reference; 0: judged as it is; null: not asked"
    ),
    Column("captured_at", _TIME, "When the image was taken (UTC)"),
    Column("scored_at", _TIME, "When it was scored (UTC)"),
    Column("verdict", _TEXT, "Newest review of the image: ok or defect; null: none"),
    Column("kind", _TEXT, "Kind of defect of that review"),
)
"""A row is an image in a run."""
REGIONS = (
    *_WHICH,
    Column("region", _INT, "Number of the region in the image; 1 has the maximum of the image"),
    Column("area", _LONG, "Pixels of the image in the region"),
    Column("top", _INT, "First row"),
    Column("left", _INT, "First column"),
    Column("bottom", _INT, "Row after the last one"),
    Column("right", _INT, "Column after the last one"),
    Column("peak", _FLOAT, "Maximum of the anomaly map in the region"),
    Column("peak_y", _INT, "Row of that maximum"),
    Column("peak_x", _INT, "Column of that maximum"),
    Column("p_value", _DOUBLE, "p-value of that maximum"),
)
"""A row is a region of a flagged image."""


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Return columns as a schema of Arrow, with their meanings as PyIceberg reads them.

    Examples
    --------
    >>> schema_of(IMAGES).field("day").type
    DataType(date32[day])
    """
    return pa.schema(
        [pa.field(one.name, one.type, metadata={"doc": one.meaning}) for one in columns]
    )


def athena_ddl(name: str, columns: Sequence[Column], location: str) -> str:
    """Return the statement that makes an Athena table of files in the layout of Hive.

    Partitions are projected: a new day is there without another statement.

    Examples
    --------
    >>> print(athena_ddl("a", IMAGES[:2], "s3://b/a/"))     # doctest: +ELLIPSIS
    CREATE EXTERNAL TABLE a (
      `night` bigint COMMENT 'Number of the night; null: the run belongs to no night'
    )
    PARTITIONED BY (`day` string)
    ...
    """
    own = [one for one in columns if one.name != DAY]
    lines = [f"  `{one.name}` {_HIVE[one.type]} COMMENT '{one.meaning}'" for one in own]
    properties = {
        "projection.enabled": "true",
        f"projection.{DAY}.type": "date",
        f"projection.{DAY}.format": "yyyy-MM-dd",
        f"projection.{DAY}.range": "2026-01-01,NOW",
    }
    listed = ",\n".join(f"  '{key}' = '{value}'" for key, value in properties.items())
    return (
        f"CREATE EXTERNAL TABLE {name} (\n" + ",\n".join(lines) + "\n)\n"
        f"PARTITIONED BY (`{DAY}` string)\nSTORED AS PARQUET\nLOCATION '{location}'\n"
        f"TBLPROPERTIES (\n{listed}\n);"
    )


def trino_ddl(name: str, columns: Sequence[Column], location: str) -> str:
    """Return the statement that makes a Trino table of files in the layout of Hive.

    Examples
    --------
    >>> print(trino_ddl("hive.audits.a", IMAGES[:2], "s3://b/a/"))
    CREATE TABLE hive.audits.a (
      "night" bigint,
      "day" date
    )
    WITH (
      external_location = 's3://b/a/',
      format = 'PARQUET',
      partitioned_by = ARRAY['day']
    );
    """
    own = [f'  "{one.name}" {_TRINO[one.type]}' for one in columns if one.name != DAY]
    return (
        f"CREATE TABLE {name} (\n" + ",\n".join([*own, f'  "{DAY}" date']) + "\n)\n"
        f"WITH (\n  external_location = '{location}',\n  format = 'PARQUET',\n"
        f"  partitioned_by = ARRAY['{DAY}']\n);"
    )
