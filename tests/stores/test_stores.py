"""The same results and guarantees on S3, GCS and Azure, each served by an emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import padim_dist as padim
from padim_dist.config import Config
from padim_dist.errors import HeldError
from padim_dist.storage import Folder
from padim_dist.store.lease import hold
from padim_dist.store.workspace import Workspace
from tests.conftest import make_mvtec, tiny_config
from tests.results import rows
from tests.stores.create import THREADS
from tests.stores.servers import Store

# HTTP clients leave connections open when their server stops.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def local(tmp_path_factory, scheduler) -> tuple[Path, Config]:
    """An archive on disk and its audit, to compare with."""
    folder = tmp_path_factory.mktemp("local")
    archive = make_mvtec(folder / "archive", groups=("b",), normal=6)
    config = tiny_config(folder, archive, scheduler)
    padim.fit(config)
    padim.score(config)
    return archive, config


def in_store(store: Store, folder: Path, scheduler: str, url: str) -> Config:
    return tiny_config(
        folder,
        Path(),
        scheduler,
        workspace=f"{url}/audit",
        archive={"url": f"{url}/photos"},
        storage_options=store.storage_options,
    )


def test_a_store_gives_the_results_of_the_disk(tmp_path, store, local, scheduler):
    """Credentials are written to no file."""
    archive, on_disk = local
    config = in_store(store, tmp_path, scheduler, store.bucket("sound", archive))
    assert padim.index(config).images == 17
    padim.fit(config)
    padim.score(config)
    assert rows(config) == rows(on_disk)
    again = padim.score(config)
    assert (again.scored, again.resumed) == (0, 17)
    assert padim.evaluate(config).groups == padim.evaluate(on_disk).groups
    model = padim.open_model(config.workspace, config.storage_options)
    reference = padim.open_model(on_disk.workspace)
    assert (model.covariance(5, 6) == reference.covariance(5, 6)).all()
    heatmaps = padim.open_heatmaps(config.workspace, config.storage_options)
    assert heatmaps.padim.full().shape == (14, 64, 64)
    padim.judge(config, review=9)
    before = rows(config)
    assert padim.compact(config).files_removed > 1
    assert rows(config) == before
    found = padim.verify(config, all_shards=True)
    assert (found.is_same, found.rows, found.notes) == (True, 17, []), found.differences
    assert padim.query(config, sql="SELECT count(*) FROM scores").rows == [[17]]
    fs = store.fs
    written = {path: fs.cat_file(path) for path in fs.find("sound/audit")}
    assert len(written) > 50
    assert not any(store.secret.encode() in data for data in written.values())


def test_changed_and_missing_objects_are_rows(tmp_path, store, local, scheduler):
    archive, _ = local
    config = in_store(store, tmp_path, scheduler, store.bucket("changing", archive))
    padim.fit(config)
    fs = store.fs
    fs.pipe_file(
        "changing/photos/b/test/good/00.png", (archive / "b/test/spot/00.png").read_bytes()
    )
    fs.rm_file("changing/photos/b/test/good/01.png")
    assert padim.score(config).statuses == {
        "scored": 12,
        "unreadable": 3,
        "changed": 1,
        "missing": 1,
    }, [row["error"] for row in rows(config)]
    changes = padim.index(config)
    assert (changes.new, changes.changed, changes.gone) == (0, 1, 1)


def test_of_many_processes_and_threads_one_creates_each_object(store):
    url, files = f"{store.bucket('created')}/audit", 20
    options = json.dumps(store.storage_options)
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.stores.create",
        url,
        options,
        str(files),
    ]
    creators = [subprocess.Popen([*command, str(number)], **pipe) for number in range(3)]
    for creator in creators:
        assert creator.stdout.readline() == "ready\n"
    for creator in creators:
        creator.stdin.write("go\n")
        creator.stdin.flush()
    made = [one for creator in creators for one in json.loads(creator.communicate(timeout=120)[0])]
    assert [creator.returncode for creator in creators] == [0, 0, 0]
    by_name = dict(one.split(" ", 1) for one in made)
    assert len(made) == len(by_name) == files, f"of {3 * THREADS} writers more than one won"
    folder = Folder(url, store.storage_options)
    assert folder.list() == sorted(by_name)
    assert {name: folder.read(name).decode() for name in by_name} == by_name
    assert folder.create("file-0.json", b"later") is False
    folder.remove("file-0.json")
    assert folder.create("file-0.json", b"later") is True


def test_leases_hold(store):
    workspace = Workspace(Folder(f"{store.bucket('leases')}/audit", store.storage_options))
    with hold(workspace, "run"), pytest.raises(HeldError, match="at work on"):
        hold(workspace, "run").__enter__()
    with hold(workspace, "run"):
        assert workspace.folder.list("run") == ["lease-00002.json"]


def test_objects_are_listed_read_and_removed(store):
    """Nothing is remembered: other processes write too."""
    url = store.bucket("objects")
    folder, other = Folder(f"{url}/audit", store.storage_options), store.fs
    assert folder.list() == []
    assert not folder.exists("a")
    with pytest.raises(FileNotFoundError):
        folder.read("a/b.bin")
    other.pipe_file("objects/audit/a/b.bin", bytes(range(100)))
    assert folder.list("a") == ["b.bin"]
    assert folder.exists("a")
    assert folder.exists("a/b.bin")
    whole = folder.read_body("a/b.bin", timeout=30)
    part = folder.read_body("a/b.bin", 10, 20, timeout=30)
    assert whole.data == bytes(range(100))
    assert part.data == bytes(range(10, 20))
    assert whole.tag == part.tag is not None
    other.pipe_file("objects/audit/a/b.bin", bytes(range(99, -1, -1)))
    assert folder.read("a/b.bin")[0] == 99
    assert folder.read_body("a/b.bin").tag != whole.tag
    other.pipe_file("objects/audit/a/c.bin", b"")
    assert folder.list("a") == ["b.bin", "c.bin"]
    assert folder.read("a/c.bin") == b""
    folder.put("a/d/e.json", b"{}")
    assert folder.list("a") == ["b.bin", "c.bin", "d"]
    folder.check_there(timeout=30)
    with pytest.raises(FileNotFoundError):
        Folder(f"{url}/nothing", store.storage_options).check_there(timeout=30)
    folder.remove("a/c.bin")
    folder.remove("a/c.bin")
    assert folder.list("a") == ["b.bin", "d"]
    folder.remove_tree("a")
    folder.remove_tree("a")
    assert folder.list("a") == []
    with pytest.raises(FileNotFoundError):
        folder.read_body("a/b.bin", timeout=30)
