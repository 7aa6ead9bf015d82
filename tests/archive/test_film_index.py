"""An index of films: what is cut and what is whole, and reads that fail at any place."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import numpy as np
import pytest

from padim_dist.archive.films import opening
from padim_dist.archive.films.frames import Frames
from padim_dist.archive.films.opening import open_film
from padim_dist.archive.listing.layouts import video
from padim_dist.archive.rows import TAIL
from padim_dist.errors import ArchiveError, ConfigError
from tests.archive.films import X264, film_rows, make_film, picture

ILL = OSError(5, "the disk is ill")


def film(path: Path, count: int = 60, codec: str = "libx264", **more) -> Path:
    more = {"options": X264 if codec == "libx264" else {"g": "20"}, **more}
    return make_film(path, (picture(number) for number in range(count)), codec, **more)


class IllFile(io.BytesIO):
    """A file whose byte at a place cannot be read."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self.place = place

    def read(self, size: int | None = -1, /) -> bytes:
        before = self.tell()
        data = super().read(size)
        if before <= self.place < before + len(data):
            raise ILL
        return data


@pytest.mark.parametrize("options", [{}, {"movflags": "+faststart"}], ids=["late", "early"])
def test_a_read_that_fails_is_no_film_without_pictures(options, tmp_path, monkeypatch):
    """FFmpeg takes a failed read for the end; wherever it is in the index, the error comes out."""
    monkeypatch.setattr(opening, "_BUFFER", 256)
    data = film(tmp_path / "a.mp4", 12, container_options=options).read_bytes()
    start = data.index(b"moov") - 4
    stop = start + int.from_bytes(data[start : start + 4], "big")
    for place in range(start, stop):
        with pytest.raises(OSError, match="the disk is ill"):
            list(Frames(open_film(IllFile(data, place))))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_before_a_read_that_fails_are_rows(name, tmp_path, monkeypatch):
    """On a disk the tail gets a row; a store that fails ends the index."""
    options = {"container_options": {"movflags": "+faststart"}} if name == "a.mp4" else {}
    path = film(tmp_path / name, 400, **options)
    data, place = path.read_bytes(), path.stat().st_size * 6 // 10
    whole = [row.member for row in film_rows(tmp_path)]
    assert len(whole) == 400

    def ill(file):
        return open_film(IllFile(data, place))

    monkeypatch.setattr(opening, "_BUFFER", 1024)
    monkeypatch.setattr(video, "open_film", ill)
    rows = film_rows(tmp_path)
    found = [row.member for row in rows[:-1]]
    assert 180 < len(found) < 300
    # Of the last ones those that are shown between others may be lacking.
    assert found[:-4] == whole[: len(found) - 4]
    assert {*found} <= {*whole}
    assert rows[-1].member == TAIL
    assert rows[-1].offset + rows[-1].length == len(data)
    slow = ConfigError("archive.group takes too long")
    monkeypatch.setattr(video, "open_film", lambda _: (_ for _ in ()).throw(slow))
    with pytest.raises(ConfigError, match="takes too long"):
        film_rows(tmp_path)
    monkeypatch.undo()
    fsspec.filesystem("memory").pipe(f"/ill-films/{name}", data)
    monkeypatch.setattr(opening, "_BUFFER", 1024)
    monkeypatch.setattr(video, "open_film", ill)
    with pytest.raises(ArchiveError, match=r"cannot be scanned .*the disk is ill"):
        film_rows("memory://ill-films")


def members(folder: Path) -> list[str | None]:
    return [row.member for row in film_rows(folder)]


def test_whole_films_are_not_called_cut(tmp_path):
    """Frames left out by a recorder or by an edit list, and numbers that were never filled in."""
    times = [100 * number + 1000 * (number >= 30) for number in range(60)]
    dropped = film(tmp_path / "dropped" / "a.avi", codec="mpeg4", times=times)
    assert TAIL not in members(dropped.parent)
    assert len(members(dropped.parent)) == 60

    filled = film(tmp_path / "filled" / "a.avi", codec="mpeg4")
    data = bytearray(filled.read_bytes())
    count = data.index(b"strh") + 8 + 32
    assert int.from_bytes(data[count : count + 4], "little") == 60
    data[count : count + 4] = (2**31 - 1).to_bytes(4, "little")
    filled.write_bytes(data)
    assert TAIL not in members(filled.parent)

    kept = {"container_options": {"avoid_negative_ts": "disabled"}}
    early = film(tmp_path / "early" / "a.mp4", times=[100 * i - 4500 for i in range(60)], **kept)
    assert members(early.parent) == [f"t={t / 10:.3f}" for t in range(15)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_a_film_without_its_end_is_called_cut(name, tmp_path):
    """Cut at some places after its index, between frames and inside of them."""
    options = {} if name in ("a.mkv", "a.avi") else {"movflags": "+faststart"}
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = film(tmp_path / name, 60, codec, container_options=options)
    data = path.read_bytes()
    for size in np.linspace(0.5 * len(data), len(data) - 1, 7).astype(int).tolist():
        path.write_bytes(data[:size])
        assert members(tmp_path)[-1] == TAIL, size


def test_two_frames_of_one_time_are_one_row(tmp_path):
    """And so is a frame whose time comes after a later one, as of a damaged recording."""
    path = film(tmp_path / "a.mkv", 60)
    with path.open("rb") as file:
        frames = Frames(open_film(file))
        times = [*range(0, 3000, 50), 0, *range(100, 5000, 50), 4000]
        frames._packets = lambda: ((time, 1) for time in times)  # type: ignore[method-assign]
        found = [frame.time for frame in frames]
    assert found == [*range(0, 5000, 50)]
