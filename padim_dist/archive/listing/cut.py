"""Cutting sorted rows into shards of equal cost.

Sorting and cutting depend only on the listing and the settings, never on the number of workers:
this makes results the same bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from padim_dist.archive.rows import MANIFEST_SCHEMA, ROWS_SCHEMA

COST_OF_AN_IMAGE = 1_000_000
"""Fixed cost of an image, in bytes: the trunk takes about as long as decoding 1 MB of JPEG."""
MOST_BYTES = 2**28
"""Upper bound of the bytes in a row's cost; larger objects are not images and are not read."""

BLOCK, SMALL_BLOCK = 32, 8
"""Images that stay in one shard: the default batch; where there are few shards, one call of the
trunk on a processor. The last block of a shard is filled up when it is scored."""
_PARTS = 4  # of a small fit
_FEW, _MANY = 8, 64  # shards of a group

_RunKey = tuple[str | None, str]


class Total(NamedTuple):
    """Number of rows and the sum of their costs."""

    images: int
    cost: int


@dataclass(frozen=True)
class CutShard:
    """A shard, with the digest of its rows and the rows as a table with `MANIFEST_SCHEMA`."""

    shard: int
    group: str | None
    split: str
    images: int
    bytes: int
    digest: str
    rows: pa.Table


def shard_size(images: int) -> int:
    """Return the images in a shard for ``archive.shard_images: auto``.

    512 bounds the work that a lost worker repeats, and the number of files. A small archive is
    cut into 64 shards for the workers to share, of at least 64 images each.

    Examples
    --------
    >>> shard_size(1000), shard_size(10_000), shard_size(10_000_000)
    (64, 157, 512)
    """
    return min(max(-(-images // 64), 64), 512)


def shard_count(images: int, shard_images: int) -> int:
    """Return the number of shards of a group's images; they have at most `shard_images` on average.

    From 5 to 64 it is a multiple of four: a small fit has four parts, which then have as many
    shards each.

    Examples
    --------
    >>> [shard_count(images, 64) for images in (64, 209, 1045, 6400)]
    [1, 4, 20, 100]
    """
    least = -(-images // shard_images)
    return -(-least // _PARTS) * _PARTS if _PARTS < least <= _MANY else least


def block_size(shards: int, shard_images: int) -> int:
    """Return the images that stay in one shard; 1 if `shard_images` is below two default batches.

    Up to eight shards are cut finer, so that workers end at the same time. More of them are not:
    what fills up the last batch of a shard takes time, too.

    Examples
    --------
    >>> block_size(17, 64), block_size(4, 64), block_size(4, 15)
    (32, 8, 1)
    """
    block = SMALL_BLOCK if shards <= _FEW else BLOCK
    return block if shard_images >= 2 * BLOCK else 1


def cut(
    tables: Iterable[pa.Table], totals: Mapping[_RunKey, Total], shard_images: int
) -> Iterator[CutShard]:
    """Cut sorted rows into shards of equal cost, with one shard in memory.

    Shards are cut only between blocks of images (`block_size`).

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        `ROWS_SCHEMA`, sorted by group, split, uri and offset; in parts of any size.
    totals : mapping
        Number and cost of the rows of each (group, split).
    shard_images : int
        Largest mean number of images in a shard.
    """
    shares = groupby(_shares(tables, totals, shard_images), key=itemgetter(0))
    for number, (_, pieces) in enumerate(shares):
        yield _shard(number, [piece for _, piece in pieces])


def _shares(
    tables: Iterable[pa.Table], totals: Mapping[_RunKey, Total], shard_images: int
) -> Iterator[tuple[tuple[_RunKey, int], pa.Table]]:
    """Yield rows with their shard in their group and split: that of the first row of the block."""
    run: _RunKey | None = None
    spent = passed = last = 0
    for key, rows in (item for table in tables for item in _runs(table)):
        if key != run:
            run, spent, passed, last = key, 0, 0, 0
        images, whole = totals[key]
        shards = shard_count(images, shard_images)
        block = block_size(shards, shard_images)
        cost = np.minimum(rows["length"].to_numpy(), MOST_BYTES) + COST_OF_AN_IMAGE
        middle = spent + np.cumsum(cost) - cost / 2
        spent += int(cost.sum())
        share = np.minimum((middle / whole * shards).astype(np.int64), shards - 1)
        begins = np.arange(passed, passed + len(rows)) % block == 0
        share = np.maximum.accumulate(np.where(begins, share, last))
        passed, last = passed + len(rows), int(share[-1])
        for start, stop in _bounds(share[1:] != share[:-1]):
            yield (key, int(share[start])), rows.slice(start, stop - start)


def _runs(table: pa.Table) -> Iterator[tuple[_RunKey, pa.Table]]:
    """Yield runs of rows with equal group and split."""
    changed = np.zeros(max(len(table) - 1, 0), bool)
    for name in ("group", "split"):
        codes = table[name].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        changed |= codes[1:] != codes[:-1]
    for start, stop in _bounds(changed):
        rows = table.slice(start, stop - start)
        yield (rows["group"][0].as_py(), rows["split"][0].as_py()), rows


def _bounds(changed: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield start and stop of runs, given whether each row differs from the one before."""
    starts = [0, *(np.flatnonzero(changed) + 1).tolist(), len(changed) + 1]
    return pairwise(starts)


def _shard(number: int, pieces: list[pa.Table]) -> CutShard:
    rows = pa.concat_tables(pieces).combine_chunks()
    return CutShard(
        shard=number,
        group=rows["group"][0].as_py(),
        split=rows["split"][0].as_py(),
        images=len(rows),
        bytes=int(rows["length"].to_numpy().sum()),
        digest=rows_digest(rows),
        rows=number_rows(rows, number),
    )


def rows_digest(rows: pa.Table) -> str:
    """Return the content address of the rows of a shard, whatever its number."""
    values = json.dumps([rows[name].to_pylist() for name in ROWS_SCHEMA.names])
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def number_rows(rows: pa.Table, shard: int) -> pa.Table:
    """Return the rows of a shard with its number: `MANIFEST_SCHEMA`."""
    numbers = pa.array(np.full(len(rows), shard, np.int32))
    return rows.append_column("shard", numbers).cast(MANIFEST_SCHEMA)
