"""Layouts: split, group, label and mask from the paths of an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from padim_dist.archive.listing.layouts import LAYOUTS, find_layout
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow
from padim_dist.config import make_config
from padim_dist.errors import ArchiveError, ConfigError, ImageError
from padim_dist.storage import Folder
from tests.archive.rows import sorted_rows
from tests.conftest import draw, make_mvtec

GROUP = "^(?P<group>[^/]+)/"


def listing(
    archive: Folder, layout: str, group: str | None, train: str = "good/"
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """Return the rows of an archive, and counts of ignored files."""
    with Spool() as spool:
        find_layout(layout)(Listing(archive, train, group), spool)
        return sorted_rows(spool), dict(spool.ignored)


def fetch(row: dict[str, Any]) -> list[bytes]:
    return ObjectFetcher({}).fetch(Request(row["uri"], (ImageRow(**row),)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_and_is_a_setting(name):
    assert callable(find_layout(name))
    archive = {"url": "photos", "layout": name}
    assert make_config({"workspace": "audit", "archive": archive}).archive.layout == name


def test_an_unknown_layout_is_refused_with_the_valid_ones():
    with pytest.raises(ConfigError) as caught:
        make_config({"workspace": "audit", "archive": {"url": "photos", "layout": "zip"}})
    message = str(caught.value)
    assert "archive.layout" in message
    for name in ("zip", *LAYOUTS):
        assert name in message


def test_mvtec_reads_many_products(tmp_path):
    rows, ignored = listing(Folder(str(make_mvtec(tmp_path))), "mvtec", GROUP)
    assert {row["group"] for row in rows} == {"a", "b"}
    assert sum(row["split"] == "train" for row in rows) == 20
    spots = [row for row in rows if row["label"] == "spot"]
    assert len(spots) == 8
    assert all(row["mask_uri"].endswith("_mask.png") for row in spots)
    assert all(row["mask_uri"] is None for row in rows if row["label"] == "good")
    assert ignored == {".txt": 1, "masks and images outside the layout": 8}


def test_folder_layout_and_names_without_a_group(tmp_path):
    for name in ("cam-1/good/a.jpg", "cam-1/night 1/b.JPG", "strange/ü'\"\n.png", "good.jpg"):
        draw(tmp_path / name, 1)
    found, _ = listing(Folder(str(tmp_path)), "folder", "cam-(?P<group>[^/]+)/", "(^|/)good/")
    rows = {row["uri"].removeprefix(f"{tmp_path}/"): row for row in found}
    assert len(rows) == 4
    assert rows["cam-1/good/a.jpg"]["split"] == "train"
    assert rows["cam-1/night 1/b.JPG"]["group"] == "1"
    assert rows["good.jpg"]["group"] is None
    assert rows["good.jpg"]["split"] == "test"
    assert len({row["image_id"] for row in rows.values()}) == 4


def test_links_to_folders_are_not_followed(tmp_path):
    """Also links that form a cycle; links to files are files."""
    draw(tmp_path / "archive/good/a.jpg", 1)
    (tmp_path / "archive/good/b.jpg").symlink_to("a.jpg")
    (tmp_path / "archive/good/circle").symlink_to("../good")
    (tmp_path / "archive/good/circle.png").symlink_to("../good")
    found, ignored = listing(Folder(str(tmp_path / "archive")), "folder", None)
    assert len(found) == 2
    assert ignored == {"links to folders, which are not followed": 2}
    for row in found:
        assert fetch(row)  # its tag is that of the listing


def test_broken_links_are_rows(tmp_path):
    """Reading them gives the reason."""
    (tmp_path / "good").mkdir()
    (tmp_path / "good/broken.jpg").symlink_to("gone.jpg")
    (tmp_path / "good/loop.jpg").symlink_to("loop.jpg")
    rows, _ = listing(Folder(str(tmp_path)), "folder", None)
    outcomes = []
    for row in rows:
        with pytest.raises(ImageError) as caught:
            fetch(row)
        outcomes.append(caught.value.status)
    assert outcomes == ["missing", "unreadable"]


def test_names_that_are_not_utf8_are_counted(tmp_path):
    draw(tmp_path / "good/a.jpg", 1)
    os.rename(tmp_path / "good/a.jpg", os.fsencode(tmp_path) + b"/good/caf\xe9.jpg")
    draw(tmp_path / "good/b.jpg", 1)
    found, ignored = listing(Folder(str(tmp_path)), "folder", None)
    assert len(found) == 1
    assert ignored == {"names that are not UTF-8": 1}


def test_an_archive_without_images_is_named(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        listing(Folder(str(tmp_path / "no")), "mvtec", None)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ArchiveError, match=r"no image in this layout \(found: 1 \.txt\)"):
        listing(Folder(str(tmp_path)), "mvtec", None)
