"""The manifest: one row an image, sorted, cut into shards of equal cost.

Sorting and cutting depend on the listing and the settings alone, never on the
number of workers: that is what makes results the same bit for bit.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MANIFEST_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("mask_uri", pa.string()),
        ("shard", pa.int32()),
    ]
)

TAIL = "(damaged tail)"
"""Stands as ``member`` for what is lost of a damaged tar file."""

# What an image costs besides its bytes: the trunk takes about as long as decoding 1 MB of JPEG.
_COST_OF_AN_IMAGE = 1_000_000


SHARDS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("images", pa.int64()),
        ("bytes", pa.int64()),
        ("digest", pa.string()),
    ]
)
"""A row a shard: the group and split of its rows, how many and how large, their digest."""


def image_id(path: str) -> str:
    """Id of an image: of its path inside the archive, or its uri as a table has it."""
    return hashlib.sha256(path.encode()).hexdigest()[:16]


def sort_and_cut(images: pa.Table, shard_images: int) -> tuple[pa.Table, pa.Table]:
    """Sort a listing and cut it into shards of equal cost.

    Parameters
    ----------
    images : pyarrow.Table
        `MANIFEST_SCHEMA`, in any order.
    shard_images : int
        Images in a shard, on average, at most.

    Returns
    -------
    table : pyarrow.Table
        Sorted by group, split, uri and offset, with column `shard` filled.
    shards : pyarrow.Table
        `SHARDS_SCHEMA`, in order; shard i covers the rows with ``shard == i``.
    """
    keys = ("group", "split", "uri", "offset")
    table = images.sort_by([(key, "ascending") for key in keys]).combine_chunks()
    size = table["size"].to_numpy()
    numbers = np.empty(len(table), np.int32)
    count = 0
    for start, stop in _runs(table):
        cut = _cut(size[start:stop] + _COST_OF_AN_IMAGE, shard_images)
        numbers[start:stop] = count + cut
        count += int(cut[-1]) + 1
    place = table.schema.get_field_index("shard")
    table = table.set_column(place, "shard", pa.array(numbers))
    bounds = np.flatnonzero(np.diff(numbers, prepend=-1, append=count))
    shards = []
    for start, stop in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        rows = table.slice(start, stop - start)
        shards.append(
            {
                "shard": int(numbers[start]),
                "group": rows["group"][0].as_py(),
                "split": rows["split"][0].as_py(),
                "images": len(rows),
                "bytes": int(size[start:stop].sum()),
                "digest": _digest(rows),
            }
        )
    return table, pa.Table.from_pylist(shards, SHARDS_SCHEMA)


def _runs(table: pa.Table) -> list[tuple[int, int]]:
    """Bounds of the runs of rows with equal group and split."""
    codes = [
        table[name].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        for name in ("group", "split")
    ]
    changed = np.zeros(len(table), bool)
    changed[0] = True
    for code in codes:
        changed[1:] |= code[1:] != code[:-1]
    starts = np.flatnonzero(changed)
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(table)], strict=True))


def _cut(cost: npt.NDArray[np.int64], shard_images: int) -> npt.NDArray[np.int64]:
    """Shard number, from 0, of each of a run of images: equal shares of the cost."""
    shards = -(-len(cost) // shard_images)
    middle = np.cumsum(cost) - cost / 2
    share = np.minimum((middle / cost.sum() * shards).astype(np.int64), shards - 1)
    _, numbers = np.unique(share, return_inverse=True)
    return numbers.astype(np.int64)


def _digest(rows: pa.Table) -> str:
    """Content address of a shard's rows, whatever their shard number."""
    values = [rows[name].to_pylist() for name in MANIFEST_SCHEMA.names if name != "shard"]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
