"""A user's own table as the archive."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import padim_dist as pd
from padim_dist.archive.tables import list_table
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder
from tests.conftest import draw, tiny_config


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        draw(tmp_path / f"photos/{i}.jpg", i, spoiled=i == 5)
    return tmp_path


def rows(path, train: str = "/[0-3]", group: str | None = None) -> list[dict]:
    return list_table(Folder(str(path)), train, group).images.to_pylist()


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
    found = rows(photos / "t.parquet")
    assert [row["uri"] for row in found[:6]] == [f"{photos}/photos/{i}.jpg" for i in range(6)]
    assert found[5]["mask_uri"] == f"{photos}/photos/4.jpg"
    assert found[0]["size"] == (photos / "photos/0.jpg").stat().st_size
    assert found[6]["etag"] is None
    assert len({row["image_id"] for row in found}) == 7


def test_csv_goes_all_the_way(photos, scheduler):
    """Groups and splits by regular expression; an object that is not there becomes a row."""
    lines = ["uri,label", *(f"photos/{i}.jpg,good" for i in range(5)), "photos/5.jpg,spot"]
    (photos / "t.csv").write_text("\n".join([*lines, "photos/9.jpg,"]))
    config = tiny_config(
        photos,
        photos / "t.csv",
        scheduler,
        archive={"layout": "table", "group": None, "train": "/[0-3].jpg"},
    )
    pd.fit(config)
    assert pd.score(config).statuses == {"scored": 6, "missing": 1}
    assert pd.evaluate(config).groups["all"].image_auroc == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nx.jpg\n", "needs a column 'uri' and a row at least; it has 1 rows of name"),
        ("uri\n", "it has 0 rows of uri"),
        ("uri,split\nx.jpg,validation\n", "has 'validation' in column 'split'"),
        ("uri\nx.jpg\nx.jpg\n", "has 1 uris more than once"),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ArchiveError, match=message):
        rows(tmp_path / "t.csv")


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"no")
    for name in ("t.parquet", "none.csv"):
        with pytest.raises(ArchiveError, match="is not a Parquet or CSV table"):
            rows(tmp_path / name)
