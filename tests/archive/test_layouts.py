"""Layouts: split, group, label and mask from the paths of an archive."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from padim_dist.archive.listing.layouts import LAYOUTS, find_layout
from padim_dist.archive.listing.layouts.base import EXCLUDED, Listing
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.listing.walk import TOO_LONG
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow
from padim_dist.config import make_config
from padim_dist.errors import ArchiveError, ConfigError
from padim_dist.storage import Folder
from tests.archive.rows import sorted_rows
from tests.conftest import draw, make_mvtec

GROUP = "^(?P<group>[^/]+)/"


def listing(
    archive: Folder, layout: str, group: str | None, train: str = "good/", **options: Any
) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """Return the rows of an archive, and counts of ignored files."""
    with Spool() as spool:
        find_layout(layout)(Listing(archive, train, group, **options), spool)
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


def test_only_regular_files_are_images(tmp_path):
    """Also behind links. A pipe that is opened blocks for ever. A folder may have any name."""
    draw(tmp_path / "good/a.jpg/inside.jpg", 1)
    os.mkfifo(tmp_path / "good/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "good/socket.jpg"))
    for name, target in {
        "to_pipe": "pipe.jpg",
        "to_device": "/dev/zero",
        "gone": "gone.jpg",
        "loop": "loop.jpg",
        "in_a_file": "a.jpg/inside.jpg/x.jpg",
        "too_long": "x" * 300,
    }.items():
        (tmp_path / f"good/{name}.jpg").symlink_to(target)
    rows, ignored = listing(Folder(str(tmp_path)), "folder", None)
    assert [row["uri"] for row in rows] == [f"{tmp_path}/good/a.jpg/inside.jpg"]
    assert ignored == {"devices, pipes and sockets": 4, "broken links": 4}


HIDDEN = {
    "hidden files": ["good/._0.jpg", "good/.0.jpg.Xa81", "good/..jpg", "a_mask/.DS_Store"],
    "system files": ["good/Thumbs.db", "good/DESKTOP.INI"],
    "hidden folders, which are not listed": [
        ".snapshot/daily/good/0.jpg",
        "good/.ipynb_checkpoints/0.jpg",
        ".Trash-1000/files/good/0.jpg",
    ],
    "system folders, which are not listed": [
        "good/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/good/0.jpg",
        "$RECYCLE.BIN/good/0.jpg",
        "System Volume Information/good/0.jpg",
        "__MACOSX/good/0.jpg",
        "lost+found/good/0.jpg",
    ],
}


@pytest.mark.parametrize("layout", ["folder", "mvtec"])
def test_hidden_and_system_names_are_no_images_and_are_counted(tmp_path, layout):
    for name in ("train/good/0.jpg", *(name for names in HIDDEN.values() for name in names)):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows, ignored = listing(Folder(str(tmp_path / "archive")), layout, None)
    assert [row["uri"] for row in rows] == [f"{tmp_path}/archive/train/good/0.jpg"]
    assert ignored == {kind: len(names) for kind, names in HIDDEN.items()}


def test_the_name_of_the_archive_itself_may_be_hidden(tmp_path):
    draw(tmp_path / ".cache/archive/good/a.jpg", 1)
    assert len(listing(Folder(str(tmp_path / ".cache/archive")), "folder", None)[0]) == 1


def test_exclude_leaves_out_images_and_masks(tmp_path):
    root = make_mvtec(tmp_path)
    every, _ = listing(Folder(str(root)), "mvtec", None)
    rows, ignored = listing(Folder(str(root)), "mvtec", None, exclude=r"/0[01](_mask)?\.png$|^b/")
    left = [row for row in every if f"{root}/b/" not in row["uri"]]
    left = [row["uri"] for row in left if not row["uri"].endswith(("/00.png", "/01.png"))]
    assert [row["uri"] for row in rows] == left
    assert ignored[EXCLUDED] == len(every) - len(rows) + 2 + 4  # and masks
    with pytest.raises(ArchiveError, match=rf"no image .*\d+ {EXCLUDED}"):
        listing(Folder(str(root)), "mvtec", None, exclude="$")


def test_names_that_are_not_utf8_are_read(tmp_path):
    """Their bytes are written as %XX, so that any table can hold them."""
    draw(tmp_path / "good/a.jpg", 1)
    os.rename(tmp_path / "good/a.jpg", os.fsencode(tmp_path) + b"/good/caf\xe9 50%.jpg")
    draw(tmp_path / "good/b\n\t\x1b.jpg", 2)
    draw(tmp_path / "good/c%20.jpg", 3)
    found, ignored = listing(Folder(str(tmp_path)), "folder", "^good/(?P<group>...)")
    assert not ignored
    rows = {row["group"]: row for row in found}
    assert rows["caf"]["uri"] == f"file://{tmp_path}/good/caf%E9%2050%25.jpg"
    for row in found:
        assert fetch(row)[0].startswith(b"\xff\xd8")
    assert len({bytes(fetch(row)[0]) for row in found}) == 3


def test_paths_that_are_too_long_are_counted(tmp_path, monkeypatch):
    """A tree may be deeper than any path that the system opens."""
    draw(tmp_path / "good/a.jpg", 1)
    at, short = str(tmp_path), 1
    with monkeypatch.context() as inside:
        inside.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
            at = f"{at}/{'d' * 250}"
            Path("a.jpg").touch()
            short += len(f"{at}/a.jpg") < 4096
    found, ignored = listing(Folder(str(tmp_path)), "folder", None)
    assert len(found) == short < 20
    assert ignored == {TOO_LONG: 1}  # the folder
    shutil.rmtree(tmp_path)


def test_an_archive_without_images_is_named(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        listing(Folder(str(tmp_path / "no")), "mvtec", None)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ArchiveError, match=r"no image in this layout \(found: 1 \.txt\)"):
        listing(Folder(str(tmp_path)), "mvtec", None)
