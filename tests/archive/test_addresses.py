"""Where files are after their archive has moved."""

from __future__ import annotations

import pyarrow as pa
import pytest

from padim_dist.archive.addresses import present_path, relocated
from padim_dist.archive.listing.relocate import relocate


@pytest.mark.parametrize(
    ("address", "former", "now", "expected"),
    [
        ("/a/x.jpg", "/a", "/b", "/b/x.jpg"),
        ("/a/b/x.jpg", "/a", "/a/b", "/a/b/b/x.jpg"),
        ("/a#1/x.jpg", "/a", "/b", "/a#1/x.jpg"),
        ("/a.tar#bytes=1-2", "/a.tar", "/b.tar", "/b.tar#bytes=1-2"),
        ("/x.jpg", "/", "/b", "/b/x.jpg"),
        ("/a/x.jpg", "/a", "/", "/x.jpg"),
        ("s3://a/x%20.jpg", "s3://a", "/b", "/b/x%20.jpg"),
        ("file:///a/x%FF.jpg", "/a", "/new b", "file:///new%20b/x%FF.jpg"),
        ("file:///my%20a/x%20.jpg", "/my a", "s3://b", "s3://b/x .jpg"),
        ("file:///my a/x.jpg", "/my a", "/b", "file:///b/x.jpg"),
        ("file://localhost/a/x.jpg", "/a", "/b", "file://localhost/b/x.jpg"),
        ("file:///x.jpg", "/", "/b", "file:///b/x.jpg"),
        ("/c/x.jpg", "/a", "/b", "/c/x.jpg"),
        ("/a/x.jpg", None, "/b", "/a/x.jpg"),
    ],
)
def test_rows_and_reads_have_one_rule(address, former, now, expected):
    assert relocated(address, former, now) == expected
    rows = pa.table({"uri": [address], "mask_uri": pa.array([None], pa.string())})
    (found,) = relocate([rows], former, now)
    assert found.to_pylist() == [{"uri": expected, "mask_uri": None}]
    assert found.schema == rows.schema


def test_a_quoted_name_is_looked_for_where_it_is_now(tmp_path):
    """Not where it was: there is no such file any more."""
    (tmp_path / "a%20b.jpg").touch()
    assert present_path("file:///old/a%20b.jpg", "/old", str(tmp_path)) == f"{tmp_path}/a%20b.jpg"
