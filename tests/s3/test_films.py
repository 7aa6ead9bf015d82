"""Films on an S3 server: read by ranges, the same frames and scores as from a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import padim_dist as padim
from padim_dist.archive.reading import ranges
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.core.geometry import InputGeometry
from padim_dist.storage import Folder
from tests.archive.films import X264, film_rows, make_film, picture, plain_frames
from tests.conftest import tiny_config
from tests.results import arrays, rows, same
from tests.s3.proxy import FaultProxy
from tests.s3.test_s3 import bucket, options

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

VIDEO = {
    "layout": "video",
    "video": {"every": "1 frame"},
    "group": None,
    "shard_images": 16,
}


def noisy(count: int, seed: int) -> list[np.ndarray]:
    """Return pictures that compress badly, so that a film has many ranges."""
    random = np.random.default_rng(seed)
    made = (picture(i, 96, 128) // 2 for i in range(count))
    return [one + random.integers(0, 64, one.shape, np.uint8) for one in made]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    make_film(folder / "archive/train/calm.mp4", noisy(32, 0), options=X264)
    day = make_film(folder / "archive/test/day.mkv", noisy(48, 1), options=X264)
    (folder / "archive/test/cut.mkv").write_bytes(day.read_bytes()[: day.stat().st_size // 2])
    return folder


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_films_in_a_store(folder, tmp_path, server, scheduler, share):
    """Also where one request in twenty fails."""
    bucket(server, folder / "archive", "films")
    on_disk = tiny_config(tmp_path / "disk", folder / "archive", scheduler, archive=VIDEO)
    with FaultProxy(*server, share=share, seed=2) as proxy:
        config = tiny_config(
            tmp_path,
            Path(),
            scheduler,
            archive={**VIDEO, "url": "s3://films/photos"},
            storage_options=options(proxy.url),
        )
        for each in (on_disk, config):
            padim.fit(each)
            padim.score(each)
        assert bool(proxy.faults) == bool(share)
        assert rows(config) == rows(on_disk)
        assert same(arrays(config), arrays(on_disk))
        sql = "SELECT status, count(*) FROM scores GROUP BY 1"
        counts = dict(map(tuple, padim.query(config, sql=sql).rows))
        assert counts["scored"] > 48 + 10  # the day, and the cut film up to its cut
        proxy.requests.clear()
        padim.index(config)
        read = {request.partition("?")[0] for request in proxy.requests if "GET" in request}
    films = {Path(request).name for request in read} & {"calm.mp4", "day.mkv", "cut.mkv"}
    assert films == {"cut.mkv"}  # the others are as they were


def test_a_frame_in_the_middle_needs_few_ranges(folder, server, monkeypatch):
    bucket(server, folder / "archive/test", "middle")
    monkeypatch.setattr(ranges, "BLOCK", 2**13)
    plain = plain_frames(folder / "archive/test/day.mkv")
    blocks = (folder / "archive/test/day.mkv").stat().st_size / 2**13
    with FaultProxy(*server) as proxy:
        listed = Folder("s3://middle/photos", options(proxy.url))
        row = [one for one in film_rows(listed) if one.uri.endswith("day.mkv")][24]
        reader = ImageReader(
            ObjectFetcher(options(proxy.url)), InputGeometry((64, 64), (64, 64)), 10**6
        )
        proxy.requests.clear()
        shown = reader.load_original(row).numpy().transpose(1, 2, 0)
        assert (shown == plain[row.member]).all()
        read = [request for request in proxy.requests if request.startswith("GET")]
    assert 0 < len(read) < blocks / 2
