"""Regular expressions of users: the same matches as `re`, and an end."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import padim_dist as padim
from padim_dist.archive import expressions
from padim_dist.archive.expressions import expression
from padim_dist.config import make_config
from padim_dist.errors import ConfigError

SLOW = r"(?P<group>(a|a)+)$"
PATTERNS = [
    "^(?P<group>[^/]+)/",
    "(^|/)(train|good|normal)/",
    r"(?P<group>cam\d+)/.*\.jpg$",
    r"(?i)/IMG_\d+",
    r"(?P<group>[^/]+(/[^/]+)*)/[^/]+$",
    r"(?P<group>\w{2,4})(?=/)",
    r"(?P<group>(?:cam|line)[-_]?\d+)(?!x)",
    r"(.)\1",
    "",
]


@given(path=st.text("cam12/goodINGx_-.jp\n é", max_size=40) | st.text("é線ß 0٣/_-.\n", max_size=20))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_matches_are_those_of_re(pattern, path):
    for text in (path, f"{path}/" * 20):
        wanted, found = re.search(pattern, text), expression(pattern).search("x", text)
        assert (wanted is None) == (found is None)
        if wanted:
            assert found.span() == wanted.span()
            assert found.groupdict() == wanted.groupdict()


@pytest.mark.parametrize("pattern", ["(a|a)+$", "(a|aa)+$", "(?P<x>(a|a)+)$"])
def test_a_search_ends(pattern, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.05)
    with pytest.raises(ConfigError, match=r"archive.x '.*' took longer than .* at 'aaa.*simplify"):
        expression(pattern).search("archive.x", "a" * 200 + "!")


@pytest.mark.parametrize("name", ["group", "train"])
def test_an_index_names_the_expression_and_the_path(tmp_path, monkeypatch, name):
    monkeypatch.setattr(expressions, "SECONDS", 0.05)
    path = "a" * 100 + "!.jpg"
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / path).touch()
    archive = {"url": str(tmp_path / "archive"), name: SLOW}
    config = make_config({"workspace": str(tmp_path / "ws"), "archive": archive})
    with pytest.raises(ConfigError, match=f"archive.{name} .* took longer .*{path}"):
        padim.index(config)


@pytest.mark.parametrize("name", ["group", "train", "exclude"])
def test_a_wrong_expression_is_refused(name):
    with pytest.raises(ConfigError, match=f"archive.{name}: is not a regular expression: missing"):
        make_config({"workspace": "ws", "archive": {"url": "a", name: "(?P<group>x"}})
