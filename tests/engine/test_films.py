"""Films through fit, score, events and report: a frame is judged as its picture would be."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config
from padim_dist.store.models import find_model
from tests.archive.films import X264, make_film, picture, plain_frames
from tests.conftest import draw, tiny_config

GROUP = "^(?P<group>[^/]+)/"
SPOILED = range(20, 26)


def scene(number: int) -> np.ndarray:
    """Return a frame of a still scene with some noise, and a stranger for half a second."""
    noise = np.random.default_rng(number).integers(0, 8, (48, 64, 3))
    shown = (picture(0) // 2 + noise).astype(np.uint8)
    if number in SPOILED:
        shown[20:40, 20:50] = 255
    return shown


@pytest.fixture(scope="module")
def films(tmp_path_factory, scheduler) -> Config:
    folder = tmp_path_factory.mktemp("films")
    root = folder / "archive"
    calm = [scene(100 + i) for i in range(40)]
    make_film(root / "cam-1" / "train" / "calm.mp4", calm, options=X264)
    test = make_film(root / "cam-1" / "test" / "day.mkv", map(scene, range(40)), options=X264)
    (root / "cam-1" / "test" / "cut.mp4").write_bytes(test.read_bytes()[:100])
    masks = root / "cam-1" / "ground_truth" / "day"
    masks.mkdir(parents=True)
    for number in SPOILED:
        mask = np.zeros((48, 64), np.uint8)
        mask[20:40, 20:50] = 255
        Image.fromarray(mask).save(masks / f"{number:03d}.png")
    archive = {"layout": "video", "video": {"every": "1 frame"}, "group": GROUP, "shard_images": 16}
    score = {"splits": ["test"], "alpha": 0.05}
    config = tiny_config(folder, root, scheduler, archive=archive, score=score)
    padim.fit(config)
    padim.score(config)
    return config


@pytest.mark.slow
def test_a_frame_is_judged_as_its_picture(films, tmp_path, scheduler):
    """By another way: the frames of a plain decoder as PNG files give the same bits."""
    for split, name in (("train", "calm.mp4"), ("test", "day.mkv")):
        path = Path(films.archive.url) / "cam-1" / split / name
        folder = tmp_path / "archive" / "cam-1" / split
        folder.mkdir(parents=True)
        for frame, pixels in plain_frames(path).items():
            Image.fromarray(pixels).save(folder / f"{frame}.png")
    archive = {"layout": "folder", "group": GROUP, "shard_images": 16}
    config = tiny_config(tmp_path, tmp_path / "archive", scheduler, archive=archive)
    padim.fit(config)
    padim.score(config)
    columns = "score, p_value, peak_y, peak_x, width, height FROM scores WHERE status = 'scored'"
    own = padim.query(films, sql=f"SELECT member, {columns} ORDER BY 1").rows
    sql = f"SELECT regexp_extract(uri, '(t=.*)\\.png', 1), {columns} AND split = 'test' ORDER BY 1"
    assert own == padim.query(config, sql=sql).rows
    assert len(own) == 40


def test_events_and_their_pictures(films, tmp_path):
    rows = padim.query(films, sql="SELECT status, count(*) FROM scores GROUP BY 1 ORDER BY 1").rows
    assert [tuple(row) for row in rows] == [("scored", 40), ("unreadable", 1)]
    # By another way: runs of flagged frames, which are a tenth of a second apart.
    sql = "SELECT member, flagged, image_id, score FROM scores WHERE status = 'scored'"
    frames = sorted((float(name[2:]), *more) for name, *more in padim.query(films, sql=sql).rows)
    flagged = [frame for frame in frames if frame[1]]
    runs: list[list[tuple]] = []
    for frame in flagged:
        if not runs or frame[0] - runs[-1][-1][0] > 1.0:
            runs.append([])
        runs[-1].append(frame)
    wanted = {(run[0][0], run[-1][0], max(run, key=lambda one: one[3])[2]) for run in runs}
    sql = "SELECT starts, ends, image_id FROM events ORDER BY score DESC"
    found = [tuple(row) for row in padim.query(films, sql=sql).rows]
    assert {*found} == wanted
    (starts, ends, image_id) = found[0]
    assert {frame[0] for frame in flagged} >= {number / 10 for number in SPOILED}
    assert starts <= 2.0
    assert ends >= 2.5
    figures = padim.evaluate(films).groups["cam-1"]
    assert (figures.images, figures.anomalous) == (40, len(SPOILED))
    assert figures.image_auroc == 1.0
    assert figures.pixel_auroc > 0.9
    page = Path(padim.report(films, out=str(tmp_path / "report.html")).report).read_text()
    _, _, section = page.partition('<section id="events"')
    section, _, _ = section.partition("</section>")
    assert section.count("<figure") == sum(min(5, len(run)) for run in runs)
    padim.show(films, image_id=image_id, out=str(tmp_path / "frame.png"))
    with Image.open(tmp_path / "frame.png") as shown:
        assert shown.width > 64


def test_an_index_of_the_same_films_finds_no_change(films):
    again = padim.index(films)
    assert (again.images, again.new, again.changed, again.gone) == (81, 0, 0, 0)
    assert again.groups == {"cam-1": {"train": 40, "test": 41}}
    day = Path(films.archive.url) / "cam-2" / "test" / "day.mkv"
    make_film(day, [picture(0)] * 5, options=X264)
    draw(day.parent / "a.png", 1)
    assert padim.index(films).new == 5


def test_what_decodes_films_is_known(films):
    """Models and runs name PyAV, whose decoders differ in the last bits."""
    named = f"av {av.__version__}"
    config = workspace_of(films)
    (model,) = {row[0] for row in padim.query(films, sql="SELECT model_id FROM runs").rows}
    info = find_model(config, model)
    assert info is not None
    assert info.versions["av"] == av.__version__
    (table,) = sorted(Path(films.workspace).rglob("scores/shard-0000000.parquet"))
    files = json.loads(pq.read_schema(table).metadata[b"padim_dist.files"])
    assert files["scored_on"].endswith(named)


def test_doctor_reads_frames_as_frames(films):
    (found,) = [one for one in padim.doctor(films).findings if one.check == "kinds"]
    assert found.verdict == "ok"
    assert found.found.endswith("one kind in each group")


def test_a_report_without_pyav_says_so_once(films, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "av", None)
    with caplog.at_level(logging.WARNING, "padim_dist"):
        padim.report(films, out=str(tmp_path / "report.html"))
    (said,) = [text for text in caplog.messages if "events have no pictures" in text]
    assert "pip install 'padim-dist[video]'" in said
