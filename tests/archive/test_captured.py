"""When an image was taken: by its EXIF data, or by its path."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pytest
import tifffile
from PIL import Image, TiffImagePlugin

from padim_dist.archive.reading.decode import decode
from padim_dist.archive.reading.formats.captured import captured_at
from padim_dist.archive.rows import ImageRow
from padim_dist.archive.times import PathTime
from padim_dist.config import make_config
from padim_dist.errors import ConfigError

PIXELS = np.zeros((8, 8, 3), np.uint8)
NIGHT = datetime(2026, 11, 26, 14, 15, tzinfo=UTC)


def exif(original: object, offset: object = None) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = 1
    own = data.get_ifd(0x8769)
    own[0x9003] = original
    if offset is not None:
        own[0x9011] = offset
    return data


def file(kind: str, data: Image.Exif | None) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(PIXELS).save(sink, kind, **({"exif": data} if data else {}))
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_the_time_is_in_the_exif_data(kind):
    local = file(kind, exif("2026:11:26 23:15:00", "+09:00"))
    assert captured_at(local) == NIGHT
    assert captured_at(file(kind, exif("2026:11:26 14:15:00"))) == NIGHT, "no zone: UTC"
    assert captured_at(file(kind, None)) is None


def test_a_tiff_file_has_its_time_in_a_directory(tmp_path):
    """Pillow writes the directory that tifffile reads."""
    data = TiffImagePlugin.ImageFileDirectory_v2()
    data[0x8769] = {0x9003: "2026:11:26 23:15:00", 0x9011: "+09:00"}
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", tiffinfo=data)
    assert captured_at((tmp_path / "a.tif").read_bytes()) == NIGHT
    tifffile.imwrite(tmp_path / "b.tif", PIXELS)
    assert captured_at((tmp_path / "b.tif").read_bytes()) is None


@pytest.mark.parametrize(
    "original", ["0000:00:00 00:00:00", "yesterday", "", 7, "9999:12:31 23:59:59"]
)
def test_a_wrong_time_is_none(original):
    data = file("JPEG", exif(original, "-12:00"))
    assert captured_at(data) is None
    assert decode(data, 1000).shape == (3, 8, 8)


def test_a_wrong_zone_is_none_of_it():
    assert captured_at(file("JPEG", exif("2026:11:26 14:15:00", "local"))) == NIGHT


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as `formats.pillow` does
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_damaged_exif_data_raise_nothing(kind):
    whole = file(kind, exif("2026:11:26 23:15:00", "+09:00"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        bytes_ = bytearray(whole)
        for place in rng.integers(8, len(bytes_), 4):
            bytes_[place] = rng.integers(256)
        found = captured_at(bytes(bytes_))
        assert found is None or found.tzinfo is UTC
    assert captured_at(b"") is captured_at(b"%PDF") is None


def row(uri: str, member: str | None = None) -> ImageRow:
    return ImageRow("", uri, member, 0, 1, 1, None, "a", "test")


def test_the_path_inside_the_archive_has_the_time():
    rule = PathTime(r"(?P<time>\d{8}-\d{4})", "%Y%m%d-%H%M", "/data/20250101-0000")
    assert rule.find(row("/data/20250101-0000/cam/20261126-1415.png")) == NIGHT
    assert rule.find(row("/data/20250101-0000/x.tar", "20261126-1415.png")) == NIGHT
    assert rule.find(row("/data/20250101-0000/cam/a.png")) is None
    assert rule.find(row("/data/20250101-0000/20261399-9999.png")) is None, "no such month"
    zoned = PathTime(r"at(?P<time>[^_]+)_", "%Y%m%dT%H%M%z")
    assert zoned.find(row("/x/at20261126T2315+0900_1.png")) == NIGHT


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"path": r"\d+", "format": "%Y%m%d"}, r"archive\.time\.path: needs a group named 'time'"),
        ({"path": r"(?P<time>\d+)", "format": "%H%M"}, "needs year, month and day"),
        ({"path": r"(?P<time>\d+)", "format": "%Q"}, "is not a format of strptime"),
    ],
)
def test_a_wrong_rule_is_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        make_config({"workspace": "w", "archive": {"url": "a", "time": rule}})
