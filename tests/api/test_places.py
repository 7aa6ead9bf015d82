"""Readers and commands accept a workspace as a URL, a YAML file or a Config."""

from __future__ import annotations

import pytest

import padim_dist as padim
from padim_dist.api.settings.places import (
    archive_in_workspace,
    archive_settings,
    workspace_in_archive,
)
from padim_dist.config import make_config
from padim_dist.errors import ConfigError
from tests.api.workspace import config_file, made_config

READERS = {
    "connect": lambda where: (
        padim.connect(where).sql("FROM scores").aggregate("count(*)").fetchall()
    ),
    "open_scores": lambda where: padim.open_scores(where).order("image_id").fetchall(),
    "open_regions": lambda where: padim.open_regions(where).order("image_id, region").fetchall(),
    "open_model": lambda where: padim.open_model(where).info,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_accepts_a_url_a_file_and_a_config(tiny_audit, tmp_path, reader):
    read, file = READERS[reader], config_file(tiny_audit, tmp_path / "audit.yaml")
    found = read(tiny_audit)
    assert found is not None
    for where in (tiny_audit.workspace, file, str(file)):
        assert read(where) == found


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_names_what_it_accepts(reader):
    message = r"^a workspace is needed: its URL, the path of a YAML file or a Config; found int$"
    with pytest.raises(ConfigError, match=message):
        READERS[reader](5)


def test_a_command_accepts_a_file_and_a_config(tiny_audit, tmp_path):
    file = config_file(tiny_audit, tmp_path / "audit.yaml")
    found = padim.top(tiny_audit)
    assert found.anomalies
    assert padim.top(str(file)) == padim.top(file) == found
    message = r"^a configuration is needed: a Config or the path of a YAML file; found int\."
    with pytest.raises(ConfigError, match=message):
        padim.top(5)


@pytest.mark.parametrize(
    ("workspace", "archive", "path"),
    [
        ("/photos/audit", "/photos", "audit"),
        ("/photos/x/../a/audit/", "/photos/", "a/audit"),
        ("/photos-2/audit", "/photos", None),
        ("file:///photos/my%20audit", "/photos", "my audit"),
        ("/photos/audit", "file:///photos/", "audit"),
        ("s3://bucket/photos/audit", "s3a://bucket/photos/", "audit"),
        ("s3://bucket/audit", "s3://bucket", "audit"),
        ("s3://bucket-2/audit", "s3://bucket", None),
        ("memory://photos/audit", "/photos", None),
    ],
)
def test_the_workspace_is_found_inside_the_archive(workspace, archive, path):
    assert workspace_in_archive(made_config(workspace, archive)) == path
    assert archive_in_workspace(made_config(archive, workspace)) == path


def test_the_workspace_is_found_behind_links(tmp_path):
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos/deep")
    (tmp_path / "all").symlink_to("photos")
    config = made_config(f"{tmp_path}/link/audit", f"{tmp_path}/all")
    assert workspace_in_archive(config) == "deep/audit"


@pytest.mark.parametrize("archive", ["/photos", "/photos/", "/x/../photos", "file:///photos"])
def test_workspace_and_archive_are_not_the_same_folder(archive):
    with pytest.raises(ConfigError, match="are the same folder, /photos; set workspace to a"):
        workspace_in_archive(made_config("/photos", archive))


@pytest.mark.parametrize(
    ("name", "known"),
    [("/old/photos/", "/old/photos"), ("s3://old/photos", "s3://old/photos"), ("line-4", "line-4")],
)
def test_a_name_is_the_identity_instead_of_the_url(name, known):
    settings = [
        archive_settings(make_config({"workspace": "/audit", "archive": {"url": archive, **given}}))
        for archive, given in ((known, {}), ("/new/photos", {"name": name}))
    ]
    assert settings[1] == {**settings[0], "url": known}
