"""An index reads new and changed films only: the others are in the manifest before."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import padim_dist as padim
from padim_dist.archive.films import opening
from padim_dist.archive.listing.layouts import video
from padim_dist.config import Config
from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder
from tests.archive.films import X264, make_film, picture
from tests.conftest import tiny_config

ARCHIVE = {
    "layout": "video",
    "video": {"every": "1 frame"},
    "group": "^(?P<group>[^/]+)/",
    "shard_images": 4,
}


class Audit:
    """An archive of films, and the names of those that its last index has read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.read = folder / "archive", set[str]()
        self.config: Config = tiny_config(folder, self.root, None, archive=ARCHIVE)
        opened = video.open_film

        def noted(file):
            self.read.add(Path(file.path if hasattr(file, "path") else file.name).name)
            return opened(file)

        monkeypatch.setattr(video, "open_film", noted)

    def film(self, name: str, count: int = 6, first: int = 0) -> Path:
        path = self.root / name
        return make_film(path, [picture(first + i) for i in range(count)], options=X264)

    def index(self) -> padim.api.pipeline.index.IndexResult:
        self.read.clear()
        return padim.index(self.config)

    def from_nothing(self) -> str:
        """Return the id of the manifest that an index in a new workspace makes."""
        workspace = f"{self.config.workspace}-again"
        fresh = self.config.model_copy(update={"workspace": workspace})
        found = padim.index(fresh).snapshot
        Folder(workspace).remove_tree("")
        return found


@pytest.fixture
def audit(tmp_path, monkeypatch) -> Audit:
    made = Audit(tmp_path, monkeypatch)
    made.film("cam-1/train/a.mp4")
    made.film("cam-1/test/b.mkv", 9)
    made.film("cam-2/train/c.mp4")
    made.index()
    return made


def test_films_that_are_as_they_were_are_not_read(audit):
    again = audit.index()
    assert (audit.read, again.images, again.new) == (set(), 21, 0)
    assert again.snapshot == audit.from_nothing()
    # A new one, a changed one, one that is gone.
    audit.film("cam-2/test/d.mp4")
    audit.film("cam-1/test/b.mkv", 12, first=3)
    (audit.root / "cam-2/train/c.mp4").unlink()
    found = audit.index()
    assert audit.read == {"b.mkv", "d.mp4"}
    assert (found.images, found.gone, found.changed + found.new) == (24, 6, 18)
    assert found.snapshot == audit.from_nothing()


def test_what_could_not_be_read_is_tried_again(audit):
    whole = audit.film("cam-1/test/cut.mkv", 40)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (audit.root / "cam-1/test/none.mp4").write_bytes(b"no film")
    audit.index()
    again = audit.index()
    assert audit.read == {"cut.mkv", "none.mp4"}
    assert (again.new, again.changed, again.gone) == (0, 0, 0)


def test_masks_may_come_and_go(audit):
    mask = audit.root / "cam-1/ground_truth/b/002.png"
    mask.parent.mkdir(parents=True)
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(mask)
    found = audit.index()
    assert audit.read == {"b.mkv"}
    assert found.snapshot == audit.from_nothing()
    mask.unlink()
    mask.parent.rmdir()
    found = audit.index()
    assert audit.read == {"b.mkv"}
    assert found.snapshot == audit.from_nothing()


def test_another_reader_reads_all_films_once(audit, monkeypatch):
    """Another PyAV may find other frames."""
    monkeypatch.setattr(opening, "_READER", 99)
    for found in ({"a.mp4", "b.mkv", "c.mp4"}, set()):
        again = audit.index()
        assert (audit.read, again.new, again.changed, again.gone) == (found, 0, 0, 0)


def test_a_damaged_manifest_is_said_before_films_are_read(audit):
    (part,) = Path(audit.config.workspace).glob("manifests/*/part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match="or remove "):
        audit.index()
    assert not audit.read
    shutil.rmtree(part.parent)
    again = audit.index()
    assert audit.read == {"a.mp4", "b.mkv", "c.mp4"}
    assert (again.images, again.new) == (21, 0)


def test_all_films_are_others(audit):
    for name in ("cam-1/train/a.mp4", "cam-1/test/b.mkv", "cam-2/train/c.mp4"):
        audit.film(name, 3, first=30)
    assert audit.index().snapshot == audit.from_nothing()
    again = audit.index()
    assert (audit.read, again.images) == (set(), 9)


def test_films_of_an_archive_that_has_moved(audit):
    named = audit.config.archive.model_copy(update={"name": "films"})
    audit.config = audit.config.model_copy(update={"archive": named})
    audit.index()
    moved = audit.root.rename(audit.root.with_name("elsewhere"))
    there = named.model_copy(update={"url": str(moved)})
    audit.root = moved
    audit.config = audit.config.model_copy(update={"archive": there})
    again = audit.index()
    assert (audit.read, again.images) == (set(), 21)
    assert (again.new, again.changed, again.gone) == (0, 0, 0)


def test_films_that_come_one_by_one(audit):
    """The manifests are written as changes of the first one."""
    for day in range(4):
        audit.film(f"cam-2/test/day-{day}.mp4", 3, first=day)
        found = audit.index()
        assert (audit.read, found.new, found.gone) == ({f"day-{day}.mp4"}, 3, 0)
    assert found.snapshot == audit.from_nothing()


def test_other_settings_read_all_films(audit):
    changed = audit.config.archive.model_copy(update={"shard_images": 5})
    audit.config = audit.config.model_copy(update={"archive": changed})
    audit.index()
    assert audit.read == {"a.mp4", "b.mkv", "c.mp4"}
