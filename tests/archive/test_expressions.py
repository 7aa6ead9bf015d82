"""Regular expressions of users: the same matches as `re`, and an end."""

from __future__ import annotations

import re
from math import inf, prod
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import padim_dist as padim
from padim_dist.archive import expressions
from padim_dist.archive.expressions import expression, is_plain
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
    "(a|b)?(c|d|INx)",
    "",
]
ATOMS = st.sampled_from(["a", "b", ".", r"\d", "[^/]", "[a|b]", "^", "$", r"\)", r"\|", "/", ""])
MARKS = st.sampled_from(["", "?", "*", "+", "*?", "++", "??", "{2}", "{,3}", "{1,}"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.lists(inner, min_size=2, max_size=4).map("|".join)
        | st.tuples(st.sampled_from(["(", "(?:", "(?P<x>", "(?=", "(?!"]), inner, MARKS).map(
            lambda parts: f"{parts[0]}{parts[1]}){parts[2]}"
        )
        | st.tuples(ATOMS, MARKS).map("".join)
    ),
    max_leaves=12,
)


@settings(max_examples=25)
@given(path=st.text("cam12/goodINGx_-.jp\n é", max_size=40) | st.text("é線ß 0٣/_-.\n", max_size=20))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_matches_are_those_of_re(pattern, path):
    for text in (path, f"{path}/" * 20):
        wanted, found = re.search(pattern, text), expression(pattern).search("x", text)
        assert (wanted is None) == (found is None)
        if wanted:
            assert found.span() == wanted.span()
            assert found.groupdict() == wanted.groupdict()


@pytest.mark.parametrize("pattern", ["(a|a)+$", "(a|aa)+$", "(?P<x>(a|a)+)$", "(a|aa)" * 24 + "$"])
def test_a_search_ends(pattern, monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.05)
    with pytest.raises(ConfigError, match=r"archive.x '.*' took longer than .* at 'aaa.*simplify"):
        expression(pattern).search("archive.x", "a" * 200 + "!")


@pytest.mark.parametrize("pattern", [*PATTERNS[:3], r"(?P<group>\w+)/.+\.png$", r"\.(jpe?g|png)$"])
def test_a_common_expression_is_plain(pattern):
    assert is_plain(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(a|aa)" * 24 + "$", "a?" * 30, "a*" * 3, "(a?){9}", "a*a*(b|c)", "a|" * 9, r"(a)\1", "(?=a)"],
)
def test_an_expression_with_many_ways_is_not_plain(pattern):
    assert not is_plain(pattern)


@settings(max_examples=300)
@given(pattern=EXPRESSIONS)
def test_a_plain_expression_has_few_ways(pattern):
    """As Python's own parser reads it."""
    try:
        parsed = _parser.parse(pattern)
    except re.error:
        return
    assert not is_plain(pattern) or ways(parsed) <= 257**2


def ways(parsed: Any) -> float:
    """Return how many ways a search may go from a place in a text of 256 characters, at most."""
    return prod(_ways_of(name, value) for name, value in parsed)


def _ways_of(name: Any, value: Any) -> float:
    if name is _constants.BRANCH:
        return sum(ways(part) for part in value[1])
    if name is _constants.SUBPATTERN:
        return ways(value[-1])
    if name in (_constants.ASSERT, _constants.ASSERT_NOT, _constants.GROUPREF):
        return inf
    if name in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        least, most, inner = value
        inside = ways(inner)
        if (least, most) == (0, 1):
            return 1 + inside
        return min(most, 256) - least + 1 if inside == 1 else inf
    return 1


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
