"""Archives that are a user's table of images."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.layouts.table import list_images
from padim_dist.archive.listing.spool import Spool
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder
from tests.archive.rows import sorted_rows
from tests.conftest import draw, tiny_config


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        draw(tmp_path / f"photos/{i}.jpg", i, spoiled=i == 5)
    return tmp_path


def rows(path, train: str = "/[0-3]", group: str | None = None) -> list[dict]:
    with Spool() as spool:
        list_images(Listing(Folder(str(path)), train, group), spool)
        return sorted_rows(spool)


def test_parquet_with_all_columns(photos):
    table = {
        "uri": [f"photos/{i}.jpg" for i in range(6)] + [str(photos / "gone.jpg")],
        "group": ["a"] * 3 + ["b"] * 4,
        "split": ["train"] * 4 + ["test"] * 3,
        "label": ["good"] * 5 + ["spot", None],
        "mask_uri": [None] * 5 + ["photos/4.jpg", None],
        "more": list(range(7)),
    }
    pq.write_table(pa.table(table), photos / "t.parquet")
    found = {row["uri"]: row for row in rows(photos / "t.parquet")}
    paths = [f"{photos}/photos/{i}.jpg" for i in range(6)]
    assert set(found) == {*paths, f"{photos}/gone.jpg"}
    assert [found[path]["group"] for path in paths] == list("aaabbb")
    assert found[paths[5]]["mask_uri"] == paths[4]
    assert found[paths[5]]["label"] == "spot"
    assert found[paths[0]]["size"] == (photos / "photos/0.jpg").stat().st_size
    assert found[f"{photos}/gone.jpg"]["etag"] is None
    assert len({row["image_id"] for row in found.values()}) == 7


def test_long_tables_and_names_with_newlines(tmp_path):
    """With more rows than are read at once, and other columns of any type."""
    uris = [f"{tmp_path}/{i:05d}\n.jpg" for i in range(30_000)]
    lines = ["id,uri", *(f'{i if i < 29_000 else "x"},"{uri}"' for i, uri in enumerate(uris))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    told = []
    with Spool() as spool:
        list_images(Listing(Folder(f"{tmp_path}/t.csv"), "good", None, told.append), spool)
        assert [row["uri"] for row in sorted_rows(spool)] == uris
    assert told == sorted(set(told))
    assert told[-1] == 30_000
    assert len(told) > 1


def test_a_csv_file_from_index_to_score(photos, scheduler):
    """Groups and splits by regular expression; an object that is not there becomes a row."""
    lines = ["uri,label", *(f"photos/{i}.jpg,good" for i in range(5)), "photos/5.jpg,spot"]
    (photos / "t.csv").write_text("\n".join([*lines, "photos/9.jpg,"]))
    config = tiny_config(
        photos,
        photos / "t.csv",
        scheduler,
        archive={"layout": "table", "group": None, "train": "/[0-3].jpg"},
    )
    padim.fit(config)
    assert padim.score(config).statuses == {"scored": 6, "missing": 1}
    assert padim.evaluate(config).groups["all"].image_auroc == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nx.jpg\n", r"column 'uri' and at least one row \(found: columns name; rows: 1\)"),
        ("uri\n", "found: columns uri; rows: 0"),
        ("uri,split\nx.jpg,validation\n", "has 'validation' in column 'split'"),
        ("uri\nx.jpg\nx.jpg\n", r"repeats uris \(1\), e.g. '/.*x.jpg'; keep one row each"),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ArchiveError, match=message):
        rows(tmp_path / "t.csv")


def test_a_file_that_is_not_a_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"no")
    for name in ("t.parquet", "none.csv"):
        with pytest.raises(ArchiveError, match="cannot be read as a Parquet or CSV table"):
            rows(tmp_path / name)
