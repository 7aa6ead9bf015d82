"""Films: the frame of every row is the one that a plain decoder gives at its time."""

from __future__ import annotations

import io
import logging
import sys
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from padim_dist.api.settings.places import archive_settings
from padim_dist.archive.films.every import Every, ShownFrame
from padim_dist.archive.films.frames import Frames
from padim_dist.archive.films.opening import open_film
from padim_dist.archive.reading import films, ranges
from padim_dist.archive.reading.ahead import Reading, read_ahead
from padim_dist.archive.reading.objects import ObjectFetcher, RetryPolicy
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.archive.times import PathTime
from padim_dist.config import make_config
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.pictures.forms import Form
from padim_dist.errors import ArchiveError, ConfigError, ImageError, RunError
from padim_dist.storage import Folder
from tests.archive.films import X264, film_rows, make_film, picture, plain_frames
from tests.conftest import draw

GEOMETRY = InputGeometry((48, 64), (48, 64))
READER = ImageReader(ObjectFetcher({}, retry=RetryPolicy(2, first=0.0)), GEOMETRY, 10**6)
READING = Reading(READER, requests=4, decoders=2)
OPEN = {"x264-params": "open-gop=1:keyint=20:min-keyint=20:bframes=3:scenecut=0"}
KINDS = {
    "x264.mp4": ("libx264", X264),
    "open.mkv": ("libx264", OPEN),
    "open.mov": ("libx264", OPEN),
    "x264.avi": ("libx264", X264),  # AVI has no times of its own for such frames
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "20"}),
    "vp9.mkv": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "20"}),
}


def pictures(count: int) -> list[np.ndarray]:
    return [picture(number) for number in range(count)]


def check_exact(path: Path, rows: list[ImageRow], reading: Reading = READING) -> None:
    """Check that each row has the pixels that a plain decoder gives at its time."""
    check_equal(plain_frames(path), rows, reading)


def check_equal(
    plain: dict[str, np.ndarray], rows: list[ImageRow], reading: Reading = READING
) -> None:
    for image in read_ahead(rows, reading, 16):
        assert image.status == "scored", (image.row.member, image.error)
        own = image.pixels.numpy().transpose(1, 2, 0)
        assert (own == plain[image.row.member]).all(), image.row.member
        assert (image.height, image.width) == own.shape[:2]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_that_of_a_plain_decoder(kind, tmp_path):
    codec, options = KINDS[kind]
    path = make_film(tmp_path / kind, pictures(70), codec, options=options)
    rows = film_rows(tmp_path)
    assert {row.member for row in rows} == set(plain_frames(path))
    assert len(rows) == 70
    check_exact(path, rows)
    for row in rows[::23]:  # on its own, by a seek
        shown = READER.load_original(row).numpy().transpose(1, 2, 0)
        assert (shown == plain_frames(path)[row.member]).all()
        assert (READER.load(row).pixels.numpy().transpose(1, 2, 0) == shown).all()


def test_a_thousand_frames_are_read_in_one_pass(tmp_path, monkeypatch):
    """Requests for neighbours go on with one decoder: each block of the file is read once."""
    path = make_film(tmp_path / "long.mp4", pictures(1000), options=X264)
    monkeypatch.setattr(ranges, "BLOCK", 2**14)
    read: Counter[int] = Counter()
    fetch = ObjectFetcher.fetch

    def counted(self, request):
        read[request.start] += 1
        return fetch(self, request)

    monkeypatch.setattr(ObjectFetcher, "fetch", counted)
    rows, plain = film_rows(tmp_path), plain_frames(path)
    check_equal(plain, rows)
    blocks = -(-path.stat().st_size // 2**14)
    assert len(read) == blocks
    assert sum(read.values()) <= blocks + 8  # the index of the film and its beginning, again
    read.clear()
    check_equal(plain, rows[700:710])
    assert sum(read.values()) < blocks / 4


def test_a_film_in_a_store_is_read_by_ranges(tmp_path, monkeypatch):
    path = make_film(tmp_path / "a.mp4", pictures(300), options=X264)
    fsspec.filesystem("memory").pipe("/films/a.mp4", path.read_bytes())
    monkeypatch.setattr(ranges, "BLOCK", 2**13)
    # Its listings give another tag than its reads.
    rows = [replace(row, etag=None) for row in film_rows("memory://films", "1 frame")]
    assert len(rows) == 300
    read: list[int] = []
    read_body = Folder.read_body

    def counted(self, name, start=None, stop=None, timeout=None):
        read.append(stop - start)
        return read_body(self, name, start, stop, timeout)

    monkeypatch.setattr(Folder, "read_body", counted)
    check_exact(path, rows[150:155])
    assert 0 < sum(read) < path.stat().st_size / 2
    assert max(read) == 2**13


def test_chosen_frames_need_no_others(tmp_path):
    path = make_film(tmp_path / "a.mkv", pictures(200), options=X264)
    rows = film_rows(tmp_path, "3s")
    assert [row.member for row in rows] == [f"t={3 * i}.000" for i in range(7)]
    check_exact(path, rows)
    # Bytes of pictures follow each other, so that shards of equal cost can be cut.
    assert rows[0].offset == 0
    assert all(a.offset + a.length == b.offset for a, b in pairwise(rows))
    assert rows[-1].offset + rows[-1].length <= path.stat().st_size


def test_times_as_they_are(tmp_path):
    """Frames at any times, an edit list with frames before zero, no duration."""
    times = np.cumsum([20 + (13 * i) % 50 + 5000 * (i == 30) for i in range(60)]).tolist()
    uneven = make_film(tmp_path / "a" / "a.mkv", pictures(60), options=X264, times=times)
    rows = film_rows(uneven.parent)
    assert [row.member for row in rows] == [f"t={time / 1000:.3f}" for time in times]
    check_exact(uneven, rows)
    after_gap = f"t={times[30] / 1000:.3f}"
    assert [row.member for row in film_rows(uneven.parent, "2s")] == ["t=0.020", after_gap]

    early = [100 * i - 450 for i in range(60)]
    kept = {"container_options": {"avoid_negative_ts": "disabled"}}
    edited = make_film(tmp_path / "b" / "b.mp4", pictures(60), options=X264, times=early, **kept)
    rows = film_rows(edited.parent)
    assert len(rows) == len(plain_frames(edited)) == 55
    check_exact(edited, rows)

    live = tmp_path / "c" / "c.mkv"
    whole = make_film(tmp_path / "whole.mkv", pictures(30), options=X264)
    live.parent.mkdir()
    with av.open(str(whole)) as source, live.open("wb") as file:

        class Pipe:
            write = file.write

        with av.open(Pipe(), "w", format="matroska") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    with av.open(str(live)) as film:
        assert film.duration is None
    check_exact(live, film_rows(live.parent))
    assert len(film_rows(live.parent)) == 30


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1)])
def test_a_turned_film_is_upright(matrix, tmp_path):
    path = make_film(tmp_path / "a.mp4", pictures(5), options=X264)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * number for number in matrix)
    data[place : place + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 2**30], ">i4").tobytes()
    path.write_bytes(data)
    turned = ImageReader(READER.fetcher, InputGeometry((64, 48), (64, 48)), 10**6)
    reader = turned if matrix[0] == 0 else READER
    check_exact(path, film_rows(tmp_path), replace(READING, reader=reader))


def test_no_film_is_lost_and_none_stops_the_others(tmp_path):
    """Damage costs a film its own tail; what cannot be opened is one row."""
    whole = make_film(tmp_path / "whole.mp4", pictures(100), options=X264)
    fast = {"container_options": {"movflags": "+faststart"}}
    cut = {
        "late.mp4": make_film(tmp_path / "late.mp4", pictures(100), options=X264),
        "early.mp4": make_film(tmp_path / "early.mp4", pictures(100), options=X264, **fast),
        "a.mkv": make_film(tmp_path / "a.mkv", pictures(100), options=X264),
        "a.avi": make_film(tmp_path / "a.avi", pictures(100), "mpeg4", options={"g": "20"}),
    }
    for path in cut.values():
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    (tmp_path / "empty.mov").write_bytes(b"")
    (tmp_path / "text.mkv").write_bytes(b"#EXTM3U\n/etc/passwd\n" * 50)
    with av.open(str(tmp_path / "no_frame.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        film.start_encoding()
    with av.open(str(tmp_path / "sound.mp4"), "w") as film:
        stream = film.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
    # Noise in one film, at a place that its neighbours refer to.
    noisy = bytearray(whole.read_bytes())
    noisy[len(noisy) // 2 : len(noisy) // 2 + 300] = bytes(300)
    (tmp_path / "noisy.mp4").write_bytes(noisy)

    images = [*read_ahead(film_rows(tmp_path), READING, 16)]
    by_film: dict[str, list] = {}
    for image in images:
        by_film.setdefault(Path(image.row.uri).name, []).append(image)
    tails = {
        name: found[-1].error for name, found in by_film.items() if found[-1].status != "scored"
    }
    cannot = "the film cannot be opened: it is cut or damaged, or no film"
    lacks = "the film has no stream of pictures that can be decoded, or no frame in it"
    rest = "the film is cut or damaged; the frames after its last row cannot be read"
    assert tails == {
        **{"late.mp4": cannot, "empty.mov": cannot, "text.mkv": cannot},
        **{"no_frame.mp4": lacks, "sound.mp4": lacks},
        **{"early.mp4": rest, "a.mkv": rest, "a.avi": rest},
    }
    scored = {name: sum(i.status == "scored" for i in found) for name, found in by_film.items()}
    assert scored["whole.mp4"] == 100
    assert 80 <= scored["noisy.mp4"] < 100
    assert all(50 <= scored[name] <= 62 for name in ("early.mp4", "a.mkv"))
    assert 20 <= scored["a.avi"] <= 62
    assert all(image.error for image in images if image.status == "unreadable")
    assert len(by_film["noisy.mp4"]) == 100
    last = (tmp_path / "early.mp4").stat().st_size
    assert by_film["early.mp4"][-1].row.offset + by_film["early.mp4"][-1].row.length == last


def test_whose_fault_it_is(tmp_path, monkeypatch):
    """A changed film is a row, an ill store ends the attempt, a film that hangs is late."""
    make_film(tmp_path / "a" / "a.mp4", pictures(20), options=X264)
    make_film(tmp_path / "a" / "b.mp4", pictures(20), options=X264)
    rows = film_rows(tmp_path / "a")
    assert len(rows) == 40
    changed = [replace(row, etag="other") for row in rows[:20]] + rows[20:]
    statuses = [image.status for image in read_ahead(changed, READING, 16)]
    assert statuses == ["changed"] * 20 + ["scored"] * 20
    gone = [replace(row, uri=row.uri.replace("a.mp4", "c.mp4")) for row in rows[:20]] + rows[20:]
    statuses = [image.status for image in read_ahead(gone, READING, 16)]
    assert statuses == ["missing"] * 20 + ["scored"] * 20

    ill = OSError(5, "the disk is ill")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read_body", lambda *_: (_ for _ in ()).throw(ill))
        fetcher = replace(READER.fetcher, witnesses=(rows[-1].uri,))
        reader = replace(READER, fetcher=fetcher)
        with pytest.raises(RunError, match="its store is ill"):
            list(read_ahead(rows, Reading(reader, 2, 2), 16))

    held = threading.Event()
    read = Folder.read_body

    def hang(self, name, *more):
        if name == "a.mp4":
            held.wait()
        return read(self, name, *more)

    monkeypatch.setattr(Folder, "read_body", hang)
    fetcher = replace(READER.fetcher, deadline=0.2)
    reading = Reading(replace(READER, fetcher=fetcher, deadline=0.2), 2, 2)
    images = [*read_ahead(rows, reading, 16)]
    held.set()
    assert [image.status for image in images] == ["timeout"] * 20 + ["scored"] * 20
    assert "archive.read_deadline" in images[0].error


def test_each_part_has_its_deadline(tmp_path, monkeypatch):
    """A read has that of reads, also while its film is decoded; the rest has that of decoders."""
    make_film(tmp_path / "a.mp4", pictures(20), options=X264)
    rows = film_rows(tmp_path)
    held = threading.Event()
    read = Folder.read_body

    def slow(self, name, *more):
        held.wait(0.8)  # longer than a decoder may take
        return read(self, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read_body", slow)
        reader = replace(READER, fetcher=replace(READER.fetcher, deadline=60.0), deadline=0.4)
        assert {image.status for image in read_ahead(rows, Reading(reader, 2, 2), 16)} == {"scored"}
        assert reader.load(rows[3]).status == "scored"
        assert reader.load_original(rows[3]).shape == (3, 48, 64)

    upright = films.upright

    def slow_pixels(*more):
        held.wait(0.8 if threading.current_thread() is not threading.main_thread() else 0)
        return upright(*more)

    monkeypatch.setattr(films, "upright", slow_pixels)
    reader = replace(READER, fetcher=replace(READER.fetcher, deadline=0.4), deadline=60.0)
    assert reader.load(rows[3]).status == "scored"
    reader = replace(READER, fetcher=replace(READER.fetcher, deadline=60.0), deadline=0.4)
    late = reader.load(rows[3])
    held.set()
    assert late.status == "timeout"
    assert "archive.decode_deadline" in str(late.error)


def test_a_read_that_fails_once_costs_no_row(tmp_path, monkeypatch):
    make_film(tmp_path / "a.mp4", pictures(40), options=X264)
    rows = film_rows(tmp_path)
    monkeypatch.setattr(ranges, "BLOCK", 2**12)
    reads, fetch = [], ObjectFetcher.fetch

    def failing(self, request):
        reads.append(request.start)
        if len(reads) in fails:
            raise ImageError("unavailable", "the store is busy")
        return fetch(self, request)

    monkeypatch.setattr(ObjectFetcher, "fetch", failing)
    fails = [3]
    check_exact(tmp_path / "a.mp4", rows)
    reads.clear()
    fails = range(3, 10**6)
    assert {image.status for image in read_ahead(rows, READING, 16)} <= {"scored", "unavailable"}
    assert READER.load(rows[-1]).status == "unavailable"


def test_films_are_closed(tmp_path, monkeypatch):
    """After the last request of each, and after one frame."""
    for name in ("a.mp4", "b.mkv"):
        make_film(tmp_path / name, pictures(70), options=X264)
    rows = film_rows(tmp_path)
    opened = []

    def kept(file):
        opened.append(open_film(file))
        return opened[-1]

    monkeypatch.setattr(films, "open_film", kept)
    check = [image.status for image in read_ahead(rows, READING, 16)]
    assert check == ["scored"] * 140
    READER.load(rows[0])
    READER.load_original(rows[0])
    assert len(opened) == 4
    for film in opened:
        with pytest.raises(AssertionError, match=r"closed|open"):
            film.container.seek(0)


def test_a_film_of_large_pictures_is_not_decoded(tmp_path, monkeypatch):
    make_film(tmp_path / "a.mp4", pictures(5), options=X264)
    rows = film_rows(tmp_path)
    monkeypatch.setattr(films.FilmPass, "_passing", None)
    found = [*read_ahead(rows, replace(READING, reader=replace(READER, max_pixels=3000)), 16)]
    assert {image.status for image in found} == {"too_large"}
    assert "64x48 pixels are more than archive.max_pixels = 3000" in str(found[0].error)


@pytest.mark.parametrize(
    ("codec", "pixels", "form"),
    [
        ("libx264", "yuv420p", Form(64, 48, 8, grey=False)),
        ("ffv1", "yuv420p10le", Form(64, 48, 10, grey=False)),
        ("ffv1", "gray", Form(64, 48, 8, grey=True)),
        ("ffv1", "gray12le", Form(64, 48, 12, grey=True)),
    ],
)
def test_the_form_of_a_frame(codec, pixels, form, tmp_path):
    make_film(tmp_path / "a.mkv", map(picture, range(3)), codec, pixels=pixels)
    assert [image.form for image in read_ahead(film_rows(tmp_path), READING, 4)] == [form] * 3


def test_groups_labels_and_masks(tmp_path):
    make_film(tmp_path / "cam-1" / "train" / "a.mp4", pictures(20), options=X264)
    make_film(tmp_path / "cam-1" / "test" / "b.mp4", pictures(20), options=X264)
    make_film(tmp_path / "cam-2" / "test" / "c.mp4", pictures(20), options=X264)
    masks = tmp_path / "cam-1" / "ground_truth" / "b"
    for name in ("005.png", "10.png"):
        masks.mkdir(parents=True, exist_ok=True)
        draw(masks / name, 1)
    (tmp_path / "notes.txt").write_text("")
    rows = film_rows(tmp_path, "0.5s", group="^(?P<group>[^/]+)/", exclude="cam-3")
    found = [
        (row.group, row.split, row.member, row.label, Path(row.mask_uri or "").name) for row in rows
    ]
    members = ["t=0.000", "t=0.500", "t=1.000", "t=1.500"]
    labels = ["good", "anomaly", "anomaly", "good"]
    names = ["", "005.png", "10.png", ""]
    assert found == [
        *(("cam-1", "test", *one) for one in zip(members, labels, names, strict=True)),
        *(("cam-1", "train", member, None, "") for member in members),
        *(("cam-2", "test", member, None, "") for member in members),
    ]
    assert len({row.image_id for row in rows}) == 12


def test_when_a_frame_was_taken(tmp_path):
    path = make_film(tmp_path / "20261126T2315.mp4", pictures(30), options=X264)
    row = film_rows(tmp_path)[15]
    rule = PathTime(r"(?P<time>\d{8}T\d{4})", "%Y%m%dT%H%M", str(tmp_path))
    assert rule.find(row) == datetime(2026, 11, 26, 23, 15, 1, 500_000, UTC)
    assert READER.load(row).captured_at is None
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        target.metadata["creation_time"] = "2026-11-27T01:02:03Z"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    row = next(row for row in film_rows(tmp_path) if row.uri.endswith("b.mp4"))
    assert READER.load(row).captured_at == datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC)


def test_every(tmp_path, caplog):
    frames = [ShownFrame(i, 40 * i, 100 * i, 100) for i in range(100)]
    chosen = [*Every.parse("0.1s").choose(frames)]
    assert [frame.time for frame in chosen][:4] == [0, 120, 200, 320]
    assert [frame.number for frame in Every.parse("25 frames").choose(frames)] == [0, 25, 50, 75]
    for wrong in ("", "0s", "s", "1.5 frames", "1m", "-1s"):
        with pytest.raises(ConfigError, match=r"archive\.video\.every"):
            make_config({"workspace": "w", "archive": {**VIDEO, "video": {"every": wrong}}})
    ways = [None, *({"every": text} for text in ("1s", "1 s", "1.0s", " 1.00 s "))]
    configs = [make_config({"workspace": "w", "archive": {**VIDEO, "video": way}}) for way in ways]
    assert all("video" not in archive_settings(config) for config in configs)
    texts = {"0.50s": "0.5s", "100s": "100s", "1 frames": "1 frame", "25frame": "25 frames"}
    for text, normal in texts.items():
        config = make_config({"workspace": "w", "archive": {**VIDEO, "video": {"every": text}}})
        assert archive_settings(config)["video"] == {"every": normal}
        assert Every.parse(normal) == Every.parse(text)
    with pytest.raises(ConfigError, match="set 'layout' to video"):
        make_config({"workspace": "w", "archive": {"url": "a", "video": {"every": "1s"}}})
    for name in ("a.mp4", "b.mp4"):
        make_film(tmp_path / name, pictures(10), options=X264)
    with caplog.at_level(logging.WARNING, "padim_dist"):
        assert len(film_rows(tmp_path, "0.01s")) == 20
        assert len(film_rows(tmp_path, "0.1s")) == 20  # as fine as the film, not finer
    (said,) = caplog.messages
    assert "finer than the frames of some films (2, e.g." in said


VIDEO = {"url": "a", "layout": "video"}


def test_an_index_of_ten_hours_holds_few_frames(tmp_path):
    small = io.BytesIO()
    with av.open(small, "w", format="matroska") as film:
        stream = film.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        shown = av.VideoFrame.from_ndarray(picture(1, 16, 16), "rgb24")
        (packet,) = stream.encode(shown) or stream.encode()
        for number in range(36_000):
            again = av.Packet(bytes(packet))
            again.stream, again.time_base = stream, packet.time_base
            again.pts = again.dts = 10 * number
            again.is_keyframe = True
            film.mux(again)
    (tmp_path / "long.mkv").write_bytes(small.getvalue())
    with (tmp_path / "long.mkv").open("rb") as file:
        film = open_film(file)
        for count, frame in enumerate(Frames(film), 1):
            if count == 18_000:
                tracemalloc.start()
            last = frame
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (count, last.time) == (36_000, 35_999_000)
    assert most < 10**6


def test_without_pyav_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'padim-dist\[video\]'"):
        film_rows(tmp_path)


def test_an_archive_without_films(tmp_path):
    draw(tmp_path / "a.png", 1)
    with pytest.raises(ArchiveError, match=r"has no film \(found: 1 .png\)"):
        film_rows(tmp_path)
    with pytest.raises(ArchiveError, match="does not exist"):
        film_rows(tmp_path / "nothing")
