"""Readers and commands accept a workspace as a URL, a YAML file or a Config."""

from __future__ import annotations

import pytest

import padim_dist as padim
from padim_dist.errors import ConfigError
from tests.api.workspace import config_file

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
