"""The manifest row: one type and one schema. Every image of an archive is a row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import pyarrow as pa

_TYPES = {"str": pa.string(), "int": pa.int64(), "tuple[str, ...]": pa.list_(pa.string())}
TAIL = "(damaged tail)"
"""Member that stands for the rest of a tar file whose headers cannot be read."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A manifest row; its attributes are the columns of `ROWS_SCHEMA`.

    Attributes
    ----------
    image_id, uri : str
        Identity and address of the image, or of the tar file that contains it.
    member : str or None
        Name inside the tar file; None for a file of its own.
    offset, length, size : int
        Where its bytes are in the object, and the size of the object.
    etag : str or None
        Tag of the object when it was indexed.
    group : str or None
        None if the path does not match ``archive.group``.
    split, label, mask_uri : str or None
        As the layout or the table gives them.
    """

    image_id: str
    uri: str
    member: str | None
    offset: int
    length: int
    size: int
    etag: str | None
    group: str | None
    split: str
    label: str | None = None
    mask_uri: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row whose image is not read: the status and reason that its score row gets."""

    row: ImageRow
    status: str
    reason: str


def schema_of(row: type) -> pa.Schema:
    """Return the schema whose columns are the fields of a dataclass."""
    return pa.schema([(f.name, _TYPES[str(f.type).removesuffix(" | None")]) for f in fields(row)])


ROWS_SCHEMA = schema_of(ImageRow)
"""A row per image, before shards are cut; `docs/formats.md` describes the columns."""
MANIFEST_SCHEMA = ROWS_SCHEMA.append(pa.field("shard", pa.int32()))


def to_rows(table: pa.Table) -> list[ImageRow]:
    """Return the rows of a table with the columns of `ROWS_SCHEMA`."""
    columns = [table[name].to_pylist() for name in ROWS_SCHEMA.names]
    return [ImageRow(*values) for values in zip(*columns, strict=True)]


def image_id(path: str) -> str:
    """Return the id of an image: a digest of its path in the archive, or its uri in a table."""
    return hashlib.sha256(path.encode()).hexdigest()[:16]
