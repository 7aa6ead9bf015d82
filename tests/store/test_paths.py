"""No path of a workspace leads out of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from padim_dist.errors import RequestError
from padim_dist.storage import Folder
from padim_dist.store.nights import Night, add_night, find_summary, last_night, put_summary
from padim_dist.store.workspace import Workspace

SETTINGS = {"url": "/archive"}
PATHS = ["../outside", "nights/../../outside", "..", "/../outside", "a//../../outside"]


def files(root):
    return {path for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", PATHS)
def test_a_night_with_an_edited_path_writes_nothing_outside(tmp_path, path):
    workspace = Workspace(Folder(str(tmp_path / "ws")))
    night = Night(1, workspace.night(SETTINGS, 1), 1, 1, [], "m" * 16, "2026-01-01", "me")
    assert add_night(workspace, SETTINGS, night)
    (file,) = files(tmp_path)
    file.write_text(json.dumps({**asdict(night), "path": path}))
    edited = last_night(workspace, SETTINGS)
    assert edited.path == path
    for write in (
        lambda: put_summary(workspace, edited, night),
        lambda: find_summary(workspace, edited.path),
    ):
        with pytest.raises(RequestError, match=r"leads out of .*ws; correct .* the file that"):
            write()
    assert files(tmp_path) == {file}


@pytest.mark.parametrize("path", PATHS)
def test_every_use_of_a_path_is_confined(tmp_path, path):
    """Ids and paths in receipts, histories, promotions and runs reach files only in these ways."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.json").write_text("{}")
    folder = Workspace(Folder(str(tmp_path / "ws"))).folder
    for use in (
        folder.at, folder.read, folder.read_json, folder.find_json, folder.read_body, folder.exists,
        folder.list, folder.remove, folder.remove_tree,
        lambda path: folder.put(path, b""), lambda path: folder.create(path, b""),
        lambda path: folder.put_json(path, {}),
    ):  # fmt: skip
        with pytest.raises(RequestError):
            use(f"{path}/a.json")
    assert files(tmp_path) == {tmp_path / "outside/a.json"}


def test_dots_in_names_are_names(tmp_path):
    folder = Workspace(Folder(str(tmp_path / "ws"))).folder
    folder.put("runs/a..b/..c", b"x")
    assert folder.list("runs/a..b") == ["..c"]
