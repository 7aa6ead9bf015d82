"""Layouts, and the cut into shards."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.archive.layouts import folder, list_images, mvtec
from padim_dist.archive.manifest import MANIFEST_SCHEMA, sort_and_cut
from padim_dist.archive.objects import ObjectFetcher
from padim_dist.archive.requests import Request
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder
from tests.conftest import draw, make_mvtec

GROUP = "^(?P<group>[^/]+)/"


def listing(sizes: list[int], groups: list[str | None], splits: list[str]) -> pa.Table:
    n = len(sizes)
    columns = {name: [None] * n for name in MANIFEST_SCHEMA.names}
    columns.update(
        image_id=[f"{i:04d}" for i in range(n)],
        uri=[f"/x/{i:04d}.jpg" for i in range(n)],
        offset=[0] * n,
        length=sizes,
        size=sizes,
        group=groups,
        split=splits,
    )
    return pa.table(columns, schema=MANIFEST_SCHEMA)


@st.composite
def listings(draw: st.DrawFn) -> pa.Table:
    n = draw(st.integers(1, 60))

    def values(of: st.SearchStrategy) -> list:
        return draw(st.lists(of, min_size=n, max_size=n))

    return listing(
        values(st.integers(0, 50_000_000)),
        values(st.sampled_from(["a", "b", None])),
        values(st.sampled_from(["train", "test"])),
    )


@given(listings(), st.integers(1, 20), st.randoms())
def test_cut_is_complete_and_depends_on_the_rows_alone(table, shard_images, random):
    rows, shards = sort_and_cut(table, shard_images)
    assert sorted(rows["image_id"].to_pylist()) == table["image_id"].to_pylist()
    assert shards["shard"].to_pylist() == list(range(len(shards)))
    assert sum(shards["images"].to_pylist()) == len(table)
    for shard in shards.to_pylist():
        own = rows.filter(pa.compute.equal(rows["shard"], shard["shard"]))
        assert len(own) == shard["images"] > 0
        assert set(own["group"].to_pylist()) == {shard["group"]}
        assert set(own["split"].to_pylist()) == {shard["split"]}
    order = list(range(len(table)))
    random.shuffle(order)
    again, shards_again = sort_and_cut(table.take(order), shard_images)
    assert again.equals(rows)
    assert shards_again.equals(shards)


def test_shards_are_of_equal_cost():
    """One huge file among small ones: the others share the work, not the count."""
    sizes = [100_000] * 99 + [40_000_000]
    _, shards = sort_and_cut(listing(sizes, ["a"] * 100, ["test"] * 100), 25)
    images = shards["images"].to_pylist()
    assert len(images) == 4
    cost = [b + n * 1_000_000 for b, n in zip(shards["bytes"].to_pylist(), images, strict=True)]
    assert max(cost) < 1.35 * np.mean(cost)
    assert images[-1] < 15


def test_mvtec_reads_many_products(tmp_path):
    found = list_images(Folder(str(make_mvtec(tmp_path))), mvtec, GROUP)
    rows = found.images.to_pylist()
    assert {row["group"] for row in rows} == {"a", "b"}
    assert sum(row["split"] == "train" for row in rows) == 20
    spots = [row for row in rows if row["label"] == "spot"]
    assert len(spots) == 8
    assert all(row["mask_uri"].endswith("_mask.png") for row in spots)
    assert all(row["mask_uri"] is None for row in rows if row["label"] == "good")
    assert found.ignored == {".txt": 1, "masks and images outside the layout": 8}


def test_folder_layout_and_names_without_a_group(tmp_path):
    for name in ("cam-1/good/a.jpg", "cam-1/night 1/b.JPG", "strange/ü'\"\n.png", "good.jpg"):
        draw(tmp_path / name, 1)
    found = list_images(Folder(str(tmp_path)), folder("(^|/)good/"), "cam-(?P<group>[^/]+)/")
    rows = {row["uri"].removeprefix(f"{tmp_path}/"): row for row in found.images.to_pylist()}
    assert len(rows) == 4
    assert rows["cam-1/good/a.jpg"]["split"] == "train"
    assert rows["cam-1/night 1/b.JPG"]["group"] == "1"
    assert rows["good.jpg"]["group"] is None
    assert rows["good.jpg"]["split"] == "test"
    assert len({row["image_id"] for row in rows.values()}) == 4


def test_links_to_folders_are_not_followed(tmp_path):
    """Not even in circles; links to files are files."""
    draw(tmp_path / "archive/good/a.jpg", 1)
    (tmp_path / "archive/good/b.jpg").symlink_to("a.jpg")
    (tmp_path / "archive/good/circle").symlink_to("../good")
    found = list_images(Folder(str(tmp_path / "archive")), folder("good/"), None)
    assert len(found.images) == 2
    assert found.ignored == {"links to folders, which are not followed": 1}
    for row in found.images.to_pylist():
        assert ObjectFetcher({}).fetch(
            Request(row["uri"], (row,))
        )  # has the tag that it was listed with


def test_names_that_are_not_utf8_are_counted(tmp_path):
    draw(tmp_path / "good/a.jpg", 1)
    os.rename(tmp_path / "good/a.jpg", os.fsencode(tmp_path) + b"/good/caf\xe9.jpg")
    draw(tmp_path / "good/b.jpg", 1)
    found = list_images(Folder(str(tmp_path)), folder("good/"), None)
    assert len(found.images) == 1
    assert found.ignored == {"names that are not UTF-8": 1}


def test_nothing_to_list_is_named(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        list_images(Folder(str(tmp_path / "no")), mvtec, None)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ArchiveError, match=r"no image in this layout \(found: 1 \.txt\)"):
        list_images(Folder(str(tmp_path)), mvtec, None)
