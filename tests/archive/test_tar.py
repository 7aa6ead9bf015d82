"""Images inside tar files, valid and damaged."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_dist.archive import expressions
from padim_dist.archive.listing.layouts.base import EXCLUDED, Listing
from padim_dist.archive.listing.layouts.tar import list_images
from padim_dist.archive.listing.layouts.tar_headers import Headers
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.rows import TAIL, image_id
from padim_dist.errors import ArchiveError, ConfigError
from padim_dist.storage import Folder
from tests.archive.rows import sorted_rows
from tests.s3.moto import moto_server

FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}
Row = dict[str, Any]


def pack(members: list[tuple[str, bytes]], kind: str = "gnu") -> bytes:
    """Return the bytes of a tar file, as tarfile writes it."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=FORMATS[kind]) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def listing(
    archive: Path | Folder,
    train: str = "(^|/)good/",
    group: str | None = None,
    exclude: str | None = None,
) -> tuple[list[Row], Mapping[str, int]]:
    """Return the rows of an archive of tar files, and counts of ignored files."""
    archive = archive if isinstance(archive, Folder) else Folder(str(archive))
    with Spool() as spool:
        list_images(Listing(archive, train, group, exclude=exclude), spool)
        return sorted_rows(spool), dict(spool.ignored)


def test_an_expression_that_takes_too_long_is_no_fault_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.05)
    (tmp_path / "a.tar").write_bytes(pack([(f"{'a' * 200}!.png", b"x")]))
    with pytest.raises(ConfigError, match=r"archive\.train '.*' took longer"):
        listing(tmp_path, train="(a|a)+$")


def cut_out(row: Row) -> bytes:
    """Return the bytes of a row; fewer if the file is cut."""
    data = read(row["uri"])
    assert len(data) == row["size"]
    return data[row["offset"] : row["offset"] + row["length"]]


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def read_mask(mask_uri: str) -> bytes:
    uri, _, span = mask_uri.rpartition("#bytes=")
    start, stop = map(int, span.split("-"))
    return read(uri)[start:stop]


LONG = "/".join(["a folder with quite a long name"] * 9) + "/"


@pytest.mark.parametrize("kind", FORMATS)
def test_members_are_rows_with_their_bytes(tmp_path, kind):
    names = ["good/a.jpg", "x/ü 😀'\"\n.PNG", "/abs.jpg", "../up.jpg", "./dot.jpg", "a/../b.jpg"]
    names += [LONG + "c.jpg"] if kind != "ustar" else []
    (tmp_path / "cams").mkdir()
    (tmp_path / "cams/one.tar").write_bytes(pack([(n, n.encode() * 99) for n in names], kind))
    (tmp_path / "cams/two.TAR").write_bytes(pack([("good/a.jpg", b"other")], kind))
    rows, ignored = listing(tmp_path, group="^cams/(?P<group>[^/]+)/")
    assert not ignored
    one = {row["member"]: row for row in rows if row["group"] == "one"}
    assert set(one) == {name.removeprefix("./") for name in names}
    for name in names:
        assert cut_out(one[name.removeprefix("./")]) == name.encode() * 99
    assert {row["group"] for row in rows} == {"one", "two"}
    assert one["good/a.jpg"]["split"] == "train"
    assert one["/abs.jpg"]["split"] == "test"
    assert one["good/a.jpg"]["image_id"] == image_id("cams/one.tar/good/a.jpg")
    assert len({row["image_id"] for row in rows}) == len(rows)


def test_one_tar_file_is_an_archive(tmp_path):
    (tmp_path / "bottle.tar").write_bytes(pack([("test/crack/1.png", b"1")]))
    (tmp_path / "other.tar").write_bytes(pack([("test/crack/2.png", b"2")]))
    (row,), _ = listing(tmp_path / "bottle.tar", group="^(?P<group>[^/]+)/")
    assert (row["group"], row["label"], cut_out(row)) == ("bottle", "crack", b"1")


def test_sidecars_override_paths_in_any_order(tmp_path):
    def note(**told: object) -> bytes:
        return json.dumps(told).encode()

    members = [
        ("s/0.json", note(group="g", label="crack", split="test", more=1)),
        ("s/0.cls", b"another"),
        ("s/0.jpg", b"0"),
        ("s/1.mask.png", b"mask of 1"),
        ("s/1.jpg", b"1"),
        ("s/1.cls", b"7\n"),
        ("s/2.b.jpg", b"2"),
        ("train/good/3.jpg", b"3"),
        ("train/good/3.json", note(split="test", label="")),
        ("s/2.json", note(split="train")),
    ]
    (tmp_path / "a.tar").write_bytes(pack(members))
    rows, ignored = listing(tmp_path)
    found = {row["member"]: row for row in rows}
    keys = ("group", "split", "label")
    assert {name: tuple(row[key] for key in keys) for name, row in found.items()} == {
        "s/0.jpg": ("g", "test", "crack"),
        "s/1.jpg": ("all", "test", "7"),
        "s/2.b.jpg": ("all", "train", None),
        "train/good/3.jpg": ("all", "test", "good"),
    }
    assert ignored == {"masks": 1}
    assert read_mask(found["s/1.jpg"]["mask_uri"]) == b"mask of 1"
    assert found["s/0.jpg"]["mask_uri"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b'{"label": 3}',
        b'{"split": "validation"}',
        b'{"group": "\\ud800"}',
        b"[" * 100_000,
        b'{"label": "' + b"x" * 2**20 + b'"}',
    ],
)
def test_invalid_sidecars_are_counted(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(pack([("0.json", data), ("0.jpg", b"0")]))
    (row,), ignored = listing(tmp_path)
    assert (row["group"], row["split"], row["label"]) == ("all", "test", None)
    assert ignored == {"sidecars that are too large or invalid": 1}


def test_masks_of_mvtec_in_the_same_tar_then_in_any(tmp_path):
    mask = "ground_truth/crack/1_mask.png"
    whole = [("train/good/0.png", b""), ("test/crack/1.png", b""), (mask, b"own")]
    (tmp_path / "bottle.tar").write_bytes(pack(whole))
    # A product in two files: identified by their folder, or by the names of the members.
    (tmp_path / "nut").mkdir()
    (tmp_path / "nut/test.tar").write_bytes(pack([("crack/1.png", b"")]))
    (tmp_path / "nut/ground_truth.tar").write_bytes(pack([("crack/1.png", b"beside")]))
    (tmp_path / "s0.tar").write_bytes(pack([("pill/test/crack/1.png", b"")]))
    (tmp_path / "s1.tar").write_bytes(pack([(f"pill/{mask}", b"elsewhere")]))
    # Its own mask is missing, and two other files have one of that name: none is used.
    (tmp_path / "screw.tar").write_bytes(pack([("test/crack/1.png", b"")]))
    (tmp_path / "wood.tar").write_bytes(pack([(mask, b"")]))
    rows, _ = listing(tmp_path)
    masks = {
        row["uri"].removeprefix(f"{tmp_path}/"): row["mask_uri"] and read_mask(row["mask_uri"])
        for row in rows
        if row["label"] == "crack"
    }
    assert masks == {
        "bottle.tar": b"own",
        "nut/test.tar": b"beside",
        "s0.tar": b"elsewhere",
        "screw.tar": None,
    }
    assert [row["member"] for row in rows if row["split"] == "train"] == ["train/good/0.png"]


def test_members_that_are_not_images_are_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("x.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("readme", "a.txt", "x.jpg", "caf\udce9.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    for name in ("a.tar.gz", "b.TGZ", "c.tar.zst", "d.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "empty.tar").touch()
    (tmp_path / "nothing.tar").write_bytes(pack([]))
    rows, ignored = listing(tmp_path)
    assert [row["member"] for row in rows] == ["x.jpg", "caf%E9.jpg"]
    assert ignored == {
        "links, folders, devices and sparse files in tar files": 4,
        "(no suffix)": 1,
        ".txt": 1,
        ".jpg": 1,
        "compressed tar files, which cannot be read by range": 3,
        "empty tar files": 1,
    }


def test_hidden_and_excluded_members_are_counted(tmp_path):
    """With their sidecars and masks: a resource fork has the suffix of its file."""
    members = [(name, b"x") for name in ("./a/0.jpg", "a/._0.jpg", "a/._0.json", "old/1.jpg")]
    members += [("__MACOSX/a/0.jpg", b"x"), ("old/1.cls", b"x"), ("a/ground_truth/x/.0.png", b"x")]
    (tmp_path / "a.tar").write_bytes(pack(members))
    (tmp_path / "._a.tar").write_bytes(pack(members))
    (tmp_path / "old.tar").write_bytes(pack(members))
    (tmp_path / "cut.tar").write_bytes(pack([("good/0.jpg", b"x" * 9999)])[:5000])
    rows, ignored = listing(tmp_path, exclude=r"(^|/)old[/.]|^cut/.*tail")
    assert [(row["uri"], row["member"]) for row in rows] == [
        (f"{tmp_path}/a.tar", "a/0.jpg"),
        (f"{tmp_path}/cut.tar", "good/0.jpg"),
    ]
    assert ignored == {"hidden files": 1 + 3, "system files": 1, EXCLUDED: 3}


def test_later_members_of_a_name_replace_earlier_ones(tmp_path):
    members = [("0.jpg", b"old"), ("0.cls", b"old"), ("./0.jpg", b"new"), ("0.cls", b"new")]
    (tmp_path / "a.tar").write_bytes(pack(members))
    (row,), ignored = listing(tmp_path)
    assert (cut_out(row), row["label"]) == (b"new", "new")
    assert ignored == {"members of tar files replaced by a later one of the same name": 1}


def test_an_archive_without_images_is_named(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        listing(tmp_path / "no")
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ArchiveError, match=r"is not a \.tar file"):
        listing(tmp_path / "a.tar.gz")
    with pytest.raises(ArchiveError, match=r"no image in a tar file \(found: 1 compressed"):
        listing(tmp_path)


def test_a_tar_without_permission_is_a_row(tmp_path, monkeypatch):
    (tmp_path / "closed.tar").write_bytes(pack([("0.jpg", b"0")]))
    (tmp_path / "open.tar").write_bytes(pack([("0.jpg", b"0")]))
    opened = fsspec.get_filesystem_class("file").open

    def refuse(fs: object, path: str, *args: object, **kwargs: object) -> object:
        if "closed" in path:
            raise PermissionError(13, "Permission denied")
        return opened(fs, path, *args, **kwargs)

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", refuse)
    rows, _ = listing(tmp_path)
    assert [(row["member"], row["offset"], row["length"]) for row in rows] == [
        (TAIL, 0, 10240),
        ("0.jpg", 512, 1),
    ]


def scan(data: bytes) -> tuple[list[tarfile.TarInfo], Headers]:
    headers = Headers(io.BytesIO(data))
    return list(headers), headers


@pytest.mark.parametrize(
    ("data", "tail"),
    [
        (b"", None),
        (bytes(512), None),
        (bytes(100), None),
        (bytes(10240), None),
        (b"not a tar", 0),
        (b"<!doctype html>" * 100, 0),
        (bytes(512) + b"lost", 0),
    ],
)
def test_files_without_members(data, tail):
    members, headers = scan(data)
    assert (members, headers.tail, headers.goes_on) == ([], tail, False)


def test_data_after_the_end_are_noticed():
    whole = pack([("a.jpg", b"a")])
    members, headers = scan(whole + whole)
    assert (len(members), headers.tail, headers.goes_on) == (1, None, True)


def test_headers_with_impossible_sizes_are_damage():
    """A name of terabytes or a negative size uses no memory and causes no endless loop."""
    sound = pack([("a.jpg", b"a" * 600)])[:1536]
    for size, kind in ((2**42, tarfile.GNUTYPE_LONGNAME), (2**42, tarfile.XHDTYPE)):
        info = tarfile.TarInfo("long")
        info.size, info.type = size, kind
        members, headers = scan(sound + info.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
        assert (len(members), headers.tail) == (1, 1536)
    info = tarfile.TarInfo("back")
    info.size = -1024
    members, headers = scan(sound + info.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
    assert (len(members), headers.tail) == (1, 1536)


@st.composite
def tars(draw: st.DrawFn) -> tuple[list[tuple[str, bytes]], str]:
    names = st.text("ab/.é😀 ", min_size=1, max_size=130)
    count = draw(st.integers(1, 8))
    members = [
        (f"{i}{draw(names)}.jpg", draw(st.binary(max_size=3)) * draw(st.integers(0, 700)))
        for i in range(count)
    ]
    return members, draw(st.sampled_from(["gnu", "pax"]))


def member_starts(data: bytes) -> list[tuple[int, int]]:
    """Return the offset of each member, long-name headers included, and the end of its data."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info.offset, info.offset_data + info.size) for info in tar.getmembers()]


@given(tars(), st.data())
def test_a_cut_tar_loses_only_its_tail(made, data):
    """Every member with complete headers is found; the rest is reported as the tail."""
    members, kind = made
    whole = pack(members, kind)
    cut = data.draw(st.integers(1, len(whole)))
    found, headers = scan(whole[:cut])
    names = [info.name for info in found]
    assert names == [name for name, _ in members][: len(names)]
    starts = member_starts(whole)
    assert all(info.offset_data <= cut for info in found)
    if len(found) < len(members):
        start, _ = starts[len(found)]
        # The cut is in its headers, in the data before it, or between the two.
        assert headers.tail == (start if start < cut else None)
    else:
        assert headers.tail is None


@given(tars(), st.data())
def test_a_damaged_header_loses_only_the_tail(made, data):
    """One wrong byte in any header: members before it are found, the rest is the tail."""
    members, kind = made
    whole = bytearray(pack(members, kind))
    starts = member_starts(bytes(whole))
    victim = data.draw(st.integers(0, len(members) - 1))
    # In the name of its first header, which the checksum covers.
    whole[starts[victim][0]] ^= 0x15
    found, headers = scan(bytes(whole))
    assert [info.name for info in found] == [name for name, _ in members[:victim]]
    assert headers.tail == starts[victim][0]


@given(st.binary(max_size=2000), tars())
def test_garbage_never_raises(garbage, made):
    members, headers = scan(pack(*made)[:1024] + garbage)
    assert headers.tail is None or 0 <= headers.tail < headers.size
    assert len(members) <= 8


def test_damaged_tars_are_rows(tmp_path):
    whole = pack([("0.jpg", b"0" * 2000), ("1.jpg", b"1" * 2000), ("2.txt", b"2" * 2000)])
    (tmp_path / "cut.tar").write_bytes(whole[:4000])
    (tmp_path / "cut_text.tar").write_bytes(whole[: 2 * 2560 + 1000])
    (tmp_path / "bad.tar").write_bytes(whole[:2560] + b"x" * 3000)
    (tmp_path / "page.tar").write_bytes(b"<!doctype html>")
    rows, _ = listing(tmp_path)
    assert [(Path(r["uri"]).stem, r["member"], r["offset"], r["length"]) for r in rows] == [
        ("bad", "0.jpg", 512, 2000),
        ("bad", TAIL, 2560, 3000),
        ("cut", "0.jpg", 512, 2000),
        ("cut", "1.jpg", 3072, 2000),  # more than the file has: an error when it is read
        ("cut_text", "0.jpg", 512, 2000),
        ("cut_text", "1.jpg", 3072, 2000),
        ("cut_text", TAIL, 5120, 1000),
        ("page", TAIL, 0, 15),
    ]
    assert {row["split"] for row in rows} == {"test"}


@pytest.fixture
def options() -> Iterator[dict[str, dict[str, object]]]:
    with moto_server() as (host, port):
        yield {"s3": {"endpoint_url": f"http://{host}:{port}"}}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tars_in_object_storage(options):
    """Several files at once, with members larger than one read."""
    fs = fsspec.filesystem("s3", **options["s3"])
    fs.mkdir("tars")
    sizes = [10, 700_000, 3, 300_000]
    for t in range(20):
        members = [(f"{i}.jpg", bytes([t]) * size) for i, size in enumerate(sizes)]
        fs.pipe_file(f"tars/x/{t:02d}.tar", pack(members))
    rows, ignored = listing(Folder("s3://tars/x", options))
    assert not ignored
    assert [row["length"] for row in rows] == sizes * 20
    for row in rows[-4:]:
        data = fs.cat_file(row["uri"])
        assert row["size"] == len(data)
        assert set(data[row["offset"] : row["offset"] + row["length"]]) == {19}
        assert row["etag"] == fs.info(row["uri"])["ETag"].strip('"')
