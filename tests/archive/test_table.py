"""Archives that are a user's table of images."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import padim_dist as padim
from padim_dist.archive.listing.layouts import table
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.layouts.table import list_images
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow
from padim_dist.config import make_config
from padim_dist.errors import ArchiveError, ConfigError
from padim_dist.storage import Folder
from tests.archive.rows import sorted_rows
from tests.conftest import draw, tiny_config


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        draw(tmp_path / f"photos/{i}.jpg", i, spoiled=i == 5)
    return tmp_path


def rows(path, train: str = "/[0-3]", group: str | None = None, **options: Any) -> list[dict]:
    with Spool() as spool:
        list_images(Listing(Folder(str(path)), train, group, **options), spool)
        return sorted_rows(spool)


def test_parquet_with_all_columns(photos):
    columns = {
        "uri": [f"photos/{i}.jpg" for i in range(6)] + [str(photos / "gone.jpg")],
        "group": ["a"] * 3 + ["b"] * 4,
        "split": ["train"] * 4 + ["test"] * 3,
        "label": ["good"] * 5 + ["spot", None],
        "mask_uri": [None] * 5 + ["photos/4.jpg", None],
        "more": list(range(7)),
    }
    pq.write_table(pa.table(columns), photos / "t.parquet")
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


@pytest.mark.slow
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


def test_text_is_text(tmp_path):
    """Also text that programs take for a missing value, a number, a date or a truth value."""
    groups = ["NA", "null", "None", "nan", "N/A", "#N/A", "007", "1e3", "2026-01-02", "true", ""]
    quoted = [f'"{group}"' for group in groups]
    lines = [f"{i}.jpg,{text},{text}" for i, text in enumerate(groups + quoted)]
    for end in ("\n", "\r\n"):
        (tmp_path / "t.csv").write_bytes(end.join(["\ufeffuri,group,label", *lines]).encode())
        found = {row["uri"].rpartition("/")[2]: row for row in rows(tmp_path / "t.csv")}
        for i, text in enumerate(groups * 2):
            row = found[f"{i}.jpg"]
            assert (row["group"], row["label"]) == (text or None, text or None)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([7, None]), ["7", None]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([date(2026, 1, 2), None]), ["2026-01-02", None]),
        (pa.array(["NA", ""]).dictionary_encode(), ["NA", None]),
        (pa.array(["a", "nan"], pa.large_string()), ["a", "nan"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array([None, None]), [None, None]),
    ],
    ids=lambda values: str(getattr(values, "type", "")),
)
def test_columns_of_parquet_become_text(tmp_path, values, texts):
    pq.write_table(pa.table({"uri": ["a.jpg", "b.jpg"], "group": values}), tmp_path / "t.parquet")
    found = sorted(rows(tmp_path / "t.parquet"), key=lambda row: row["uri"])
    assert [row["group"] for row in found] == texts


def test_a_column_that_is_no_text_is_named(tmp_path):
    for kind, values in {"list<": [[1]], "struct<": [{"a": 1}]}.items():
        pq.write_table(pa.table({"uri": ["a.jpg"], "group": values}), tmp_path / "t.parquet")
        with pytest.raises(ArchiveError, match=f"type {kind}.* in column 'group'; make them text"):
            rows(tmp_path / "t.parquet")


def test_addresses_are_addresses(tmp_path):
    """%20 in a file:// address is a space, unless the file has that name."""
    for name in ("a b.jpg", "c%20d.jpg", "c d.jpg", "ü.jpg"):
        draw(tmp_path / name, len(name))
    names = ["a%20b.jpg", "c%20d.jpg", "%C3%BC.jpg"]
    lines = ["uri", *(f"file://{tmp_path}/{name}" for name in names), "c%20d.jpg", "c d.jpg"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    sizes = {Path(p).name: Path(p).stat().st_size for p in tmp_path.glob("*.jpg")}
    found = {row["uri"]: row for row in rows(tmp_path / "t.csv")}
    meant = ["a b.jpg", "c%20d.jpg", "ü.jpg"]
    for name, file in zip(names, meant, strict=True):
        row = found[f"file://{tmp_path}/{name}"]
        (data,) = ObjectFetcher({}).fetch(Request(row["uri"], (ImageRow(**row),)))
        assert (data, row["size"]) == ((tmp_path / file).read_bytes(), sizes[file])
    assert found[f"{tmp_path}/c%20d.jpg"]["size"] == sizes["c%20d.jpg"]


OUTSIDE = [
    "/etc/passwd",
    "../elsewhere/a.jpg",
    "../data-2/a.jpg",
    "sub/../../a.jpg",
    "file:///etc/passwd",
    "file:///{home}/%2e%2e/a.jpg",
    "FILE:///etc/passwd",
    "local:///etc/passwd",
    "http://169.254.169.254/latest/a.jpg",
    "https://host/photos-2/a.jpg",
    "https://host/photos/%2e%2e/a.jpg",
    "https://host@evil/photos/a.jpg",
    "https://evil/https://host/photos/a.jpg",
    "s3://bucket-2/a.jpg",
    "s3://bucket/../bucket-2/a.jpg",
    "s3://bucket/a.jpg::file:///etc/passwd",
    "zip://a.jpg::/etc/passwd.zip",
    "simplecache::s3://bucket/a.jpg",
]


@pytest.mark.parametrize("uri", OUTSIDE)
@pytest.mark.parametrize("column", ["uri", "mask_uri"])
def test_rows_outside_the_folder_of_the_table_are_refused(tmp_path, monkeypatch, uri, column):
    """Nothing there is looked at."""
    looked_at: list[str] = []
    monkeypatch.setattr(table, "_info", lambda uri, _: looked_at.append(uri))
    home = tmp_path / "data"
    home.mkdir()
    uri = uri.format(home=str(home).lstrip("/"))
    row = {"uri": "a.jpg", "mask_uri": "m.png", column: uri}
    pq.write_table(pa.Table.from_pylist([row]), home / "t.parquet")
    allow = ("s3://bucket", "https://host/photos/")
    with pytest.raises(ArchiveError) as caught:
        rows(home / "t.parquet", allow=allow)
    assert f"outside its folder in 1 places ({column} of row 1)" in str(caught.value)
    assert "archive.allow" in str(caught.value)
    assert not looked_at


def test_rows_below_an_allowed_folder_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_info", lambda *_: None)
    uris = [
        "a.jpg",
        "./b.jpg",
        f"{tmp_path}/c.jpg",
        f"file://{tmp_path}/d.jpg",
        "/mnt/x/../y/e.jpg",
    ]
    uris += ["s3a://bucket/f.jpg", "s3://bucket/./g.jpg", "http://host/x.jpg?sig=/../"]
    (tmp_path / "t.csv").write_text("\n".join(["uri", *uris]))
    allow = ("/mnt/y", "s3://bucket/", "http://host")
    assert len(rows(tmp_path / "t.csv", allow=allow)) == len(uris)


def test_the_refusal_names_the_folders_to_allow(tmp_path):
    lines = [f"/mnt/line/{i}.jpg" for i in range(3)] + ["http://me:secret@host/x/y/1.jpg?sig=abc"]
    (tmp_path / "t.csv").write_text("\n".join(["uri", "a.jpg", *lines]))
    with pytest.raises(ArchiveError) as caught:
        rows(tmp_path / "t.csv")
    message = str(caught.value)
    assert "in 4 places (uri of row 2, uri of row 3, uri of row 4, ...)" in message
    assert "add their folders to archive.allow, e.g. ['/mnt/line', 'http://host/x']" in message
    with pytest.raises(ArchiveError, match="in 1 places"):
        rows(tmp_path / "t.csv", allow=("/mnt/line",))


def test_allowed_folders_are_absolute():
    archive = {"url": "t.csv", "layout": "table", "allow": ["photos"]}
    with pytest.raises(ConfigError, match=r"archive.allow: 'photos' is neither an absolute path"):
        make_config({"workspace": "audit", "archive": archive})


def test_excluded_rows_are_counted(photos):
    (photos / "t.csv").write_text("\n".join(["uri", *(f"photos/{i}.jpg" for i in range(6))]))
    assert len(rows(photos / "t.csv", exclude="photos/[12]")) == 4
    with pytest.raises(ArchiveError, match=r"no image .found: 6 rows, 6 left out by archive.exc"):
        rows(photos / "t.csv", exclude="photos")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nx.jpg\n", r"column 'uri' \(found: columns name\)"),
        ("uri\n", "has no image .found: 0 rows"),
        ("", "Empty CSV"),
        ("uri,split\nx.jpg,validation\n", "has 'validation' in column 'split'"),
        ("uri\nx.jpg\nx.jpg\n", r"repeats uris \(1\), e.g. '/.*x.jpg'; keep one row each"),
        ("uri, split\nx.jpg,test\n", "column ' split'; is it 'split'?"),
        ("uri,Split\nx.jpg,test\n", "column 'Split'; is it 'split'?"),
        ("uri,groups\nx.jpg,a\n", "column 'groups'; is it 'group'?"),
        ("uri,mask\nx.jpg,m.png\n", "column 'mask'; is it 'mask_uri'?"),
        ("uri,mask uri\nx.jpg,m.png\n", "column 'mask uri'; is it 'mask_uri'?"),
        ("URI\nx.jpg\n", "column 'URI'; is it 'uri'?"),
        ("uri,group,group\nx.jpg,a,b\n", "has several columns 'group'"),
        ("uri;group\nx.jpg;a\n", "separate columns by commas, not ';'"),
        ("uri,group\nx.jpg,a\ny.jpg\n", "line 3 has 1 values for 2 columns"),
        ("uri,group\nx.jpg,SECRET,b\n", "line 2 has 3 values for 2 columns"),
        ("uri\nx\0.jpg\n", "has a null character in row 1"),
        ("uri,group\nx.jpg,é\n".encode("latin-1"), "its text is not UTF-8"),
        ("uri,group\nx.jpg,é\n".encode("utf-16"), "is UTF-16; save it as CSV in UTF-8"),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ArchiveError, match=message) as caught:
        rows(tmp_path / "t.csv")
    assert "SECRET" not in str(caught.value)


def test_other_columns_may_stay(tmp_path):
    names = ["path", "camera", "Group", "image_id", "taken at", "url", "subgroup"]
    (tmp_path / "t.csv").write_text(",".join(["uri", "group", *names]) + "\nx.jpg,a" + ",1" * 7)
    assert [row["group"] for row in rows(tmp_path / "t.csv")] == ["a"]


def test_a_pipe_is_not_a_table(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(ArchiveError, match=r"is not a file; give a .csv or .parquet file"):
        rows(tmp_path / "t.csv")


def test_a_file_that_is_not_a_table_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"no")
    for name in ("t.parquet", "none.csv"):
        with pytest.raises(ArchiveError, match="cannot be read as a Parquet or CSV table"):
            rows(tmp_path / name)
