"""The spool, and cutting its rows into shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.archive.listing.cut import BLOCK, SMALL_BLOCK, CutShard, cut, shard_count
from padim_dist.archive.listing.spool import Batch, FoundImage, FoundMask, Note, Spool
from padim_dist.archive.listing.workbench import SortedRows
from padim_dist.archive.rows import MANIFEST_SCHEMA, ROWS_SCHEMA
from padim_dist.config.identity import batch_images
from padim_dist.config.model import ModelConfig
from padim_dist.core.embedding import TOGETHER
from padim_dist.errors import ResourceError
from tests.archive.rows import sorted_rows

Rows = list[FoundImage]
KEYS = ("group", "split", "uri", "offset")


def test_the_schema_has_the_columns_that_manifests_are_written_with():
    columns = [
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
    ]
    assert pa.schema(columns) == ROWS_SCHEMA
    assert pa.schema([*columns, ("shard", pa.int32())]) == MANIFEST_SCHEMA


def image(i: int, length: int, group: str | None, split: str) -> FoundImage:
    return FoundImage(
        image_id=f"{i:04d}",
        uri=f"/x/{i:04d}.jpg",
        length=length,
        size=length,
        etag=None,
        group=group,
        split=split,
    )


@st.composite
def images(draw: st.DrawFn) -> Rows:
    n = draw(st.integers(1, 60))

    def values(of: st.SearchStrategy) -> list:
        return draw(st.lists(of, min_size=n, max_size=n))

    lengths = values(st.integers(0, 50_000_000))
    groups = values(st.sampled_from(["a", "b", "Z", "ü", None]))
    splits = values(st.sampled_from(["train", "test"]))
    return [image(i, *rest) for i, rest in enumerate(zip(lengths, groups, splits, strict=True))]


def spooled(rows: Rows, shard_images: int, a_batch: int = 7) -> tuple[list[CutShard], pa.Table]:
    """Return the shards (rows set to None), and the rows of all shards in one table."""
    with Spool() as spool:
        for start in range(0, len(rows), a_batch):
            spool.add(Batch(rows[start : start + a_batch]))
        ordered = spool.sorted()
        found = list(cut(in_parts(ordered, a_batch), ordered.totals, shard_images))
    table = pa.concat_tables([shard.rows for shard in found])
    return [replace(shard, rows=None) for shard in found], table


def in_parts(rows: SortedRows, size: int) -> list[pa.Table]:
    """Split the rows into other parts than the spool does, so that shards span parts."""
    return [
        table.slice(start, size) for table in rows.tables() for start in range(0, len(table), size)
    ]


def block_of(images: int, shard_images: int) -> int:
    """Blocks of 2 and 4 images, as the test below sets them."""
    block = 2 if shard_count(images, shard_images) <= 8 else 4
    return block if shard_images >= 8 else 1


def cut_in_memory(rows: Rows, shard_images: int) -> pa.Table:
    """Cut by definition: all rows of a group and split at once."""
    columns = [[getattr(row, name) for row in rows] for name in ROWS_SCHEMA.names]
    table = pa.table(columns, schema=ROWS_SCHEMA).sort_by([(key, "ascending") for key in KEYS])
    numbers: list[int] = []
    runs = list(dict.fromkeys(zip(*(table[key].to_pylist() for key in KEYS[:2]), strict=True)))
    for run in runs:
        chosen = [row for row in table.to_pylist() if (row["group"], row["split"]) == run]
        cost = np.array([row["length"] for row in chosen]) + 1_000_000
        shards = -(-len(cost) // shard_images)
        shards = shards + -shards % 4 if 4 < shards <= 64 else shards
        middle = np.cumsum(cost) - cost / 2
        share = np.minimum((middle / cost.sum() * shards).astype(np.int64), shards - 1)
        block = block_of(len(cost), shard_images)
        share = share[np.arange(len(cost)) // block * block]  # a block stays together
        _, local = np.unique(share, return_inverse=True)
        first = numbers[-1] + 1 if numbers else 0
        numbers += (first + local).tolist()
    return table.append_column(MANIFEST_SCHEMA.field("shard"), pa.array(numbers, pa.int32()))


@pytest.mark.slow
@given(images(), st.integers(1, 20), st.randoms())
def test_cut_is_that_of_all_rows_at_once(rows, shard_images, random):
    """For any order and any parts of the rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("padim_dist.archive.listing.cut.BLOCK", 4)  # several blocks in a few rows
        patch.setattr("padim_dist.archive.listing.cut.SMALL_BLOCK", 2)
        shards, table = spooled(rows, shard_images)
        shuffled = random.sample(rows, len(rows))
        assert spooled(shuffled, shard_images, a_batch=23) == (shards, table)
    assert table.equals(cut_in_memory(rows, shard_images))
    assert [shard.shard for shard in shards] == list(range(len(shards)))
    for shard in shards:
        own = table.filter(pa.compute.equal(table["shard"], shard.shard))
        assert len(own) == shard.images > 0
        assert sum(own["length"].to_pylist()) == shard.bytes
        assert set(own["group"].to_pylist()) == {shard.group}
        assert set(own["split"].to_pylist()) == {shard.split}
    for shard, after in pairwise(shards):
        is_last = (shard.group, shard.split) != (after.group, after.split)
        images = sum((row.group, row.split) == (shard.group, shard.split) for row in rows)
        assert is_last or shard.images % block_of(images, shard_images) == 0


def test_blocks_are_the_default_batch_and_a_call_of_the_trunk():
    assert (batch_images(ModelConfig()), TOGETHER) == (BLOCK, SMALL_BLOCK)


@pytest.mark.slow
@given(images())
def test_runs_are_merged_in_order(rows):
    """With more rows than are sorted at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("padim_dist.archive.listing.workbench._ROWS_A_RUN", 7)
        patch.setattr("padim_dist.archive.listing.workbench._ROWS_A_READ", 3)
        shards, table = spooled(rows, 5)
    assert table.equals(cut_in_memory(rows, 5))
    assert (shards, table) == spooled(rows, 5)


def test_shards_are_of_equal_cost():
    """One huge file among small ones: shards have equal work, not equal counts."""
    lengths = [100_000] * 99 + [40_000_000]
    rows = [image(i, length, "a", "test") for i, length in enumerate(lengths)]
    counts = [shard.images for shard in spooled(rows, 25)[0]]
    cost = [shard.bytes + shard.images * 1_000_000 for shard in spooled(rows, 25)[0]]
    assert len(counts) == 4
    assert max(cost) < 1.35 * np.mean(cost)
    assert counts[-1] < 15


def test_the_cost_of_an_image_has_an_upper_bound():
    """Otherwise the tail of a damaged tar would put all images into one shard."""
    lengths = [100_000] * 99 + [10**12]
    rows = [image(i, length, "a", "test") for i, length in enumerate(lengths)]
    assert next(shard.images for shard in spooled(rows, 25)[0]) < 95


def test_odd_names_survive_the_spool():
    names = ["a\nb", "'\"", "😀", "ü", "u\u0308", "\x01\x7f", "[*]", "%2F", ""]
    rows = [replace(image(i, 1, name, "test"), uri=f"/x/{name}") for i, name in enumerate(names)]
    with Spool() as spool:
        spool.add(Batch(rows))
        found = sorted_rows(spool)
    assert [(row["group"], row["uri"]) for row in found] == sorted(
        ((name, f"/x/{name}") for name in names), key=lambda pair: pair[0].encode()
    )


def test_a_join_gets_more_memory_only_if_needed(monkeypatch):
    rows = [replace(image(i, 1, "g", "test"), key=f"{i:064d}") for i in range(50_000)]
    notes = [Note(row.key, rank=1, label=row.key) for row in rows]
    for limits in (("4MB",), ("4MB", "1GB")):
        monkeypatch.setattr("padim_dist.archive.listing.workbench._MEMORY", limits)
        with Spool() as spool:
            spool.add(Batch(rows, notes=notes))
            if len(limits) == 1:
                with pytest.raises(ResourceError, match="50000 rows cannot be joined in 4MB"):
                    spool.sorted()
            else:
                assert sum(len(table) for table in spool.sorted().tables()) == len(rows)


def test_masks_and_notes_find_their_images():
    def mask(path: str, thing: str, offset: int = 0) -> FoundMask:
        return FoundMask(path, uri=f"{thing}#{offset}", object=thing, offset=offset)

    masks = (("no", "one"), ("two",), ("both", "one"), (), ())
    keys = (None, None, None, "k", "k")
    rows = [
        replace(image(i, 1, "g", "test"), masks=paths, key=key)
        for i, (paths, key) in enumerate(zip(masks, keys, strict=True))
    ]
    batch = Batch(
        rows,
        # Of two masks in one object the later one is used; of two in two objects, none.
        [
            mask("one", "a"),
            mask("two", "a", 1),
            mask("two", "a", 2),
            *map(mask, ["both"] * 2, "ab"),
        ],
        [
            Note("k", rank=1, label="low", split="train"),
            Note("k", rank=2, label="high", group=None),
        ],
        Counter({".txt": 2}),
    )
    with Spool() as spool:
        spool.add(batch)
        found = sorted(sorted_rows(spool), key=lambda row: row["image_id"])
        assert spool.ignored == {".txt": 2}
    assert [row["mask_uri"] for row in found] == ["a#0", "a#2", "a#0", None, None]
    assert [row["label"] for row in found] == [None, None, None, "high", "high"]
    assert [row["split"] for row in found] == ["test"] * 3 + ["train"] * 2
    assert {row["group"] for row in found} == {"g"}


def test_of_members_of_one_name_the_last_is_kept_and_the_others_are_counted():
    rows = [replace(image(0, 1, "g", "test"), member="m", offset=i) for i in (512, 2048, 1024)]
    rows.append(replace(image(1, 1, "g", "test"), member="m", offset=7))
    with Spool() as spool:
        spool.add(Batch(rows))
        assert [row["offset"] for row in sorted_rows(spool)] == [2048, 7]
        assert list(spool.ignored.values()) == [2]
