"""Regular expressions of users, searched in paths with a time limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex  # type: ignore[import-untyped]

from padim_dist.errors import ConfigError

SECONDS = 1.0
"""Time that the search of one path may take."""
_LONG = 256
_KNOWN = re.compile(r"\(\?(?:P<\w+>|:|i\))")
_RISKY = re.compile(r"\(\?|\)[*+]|\{|\\(?![dDwWsSbB\W])")


@dataclass(frozen=True)
class Expression:
    """A regular expression.

    Attributes
    ----------
    pattern : str
        The expression.
    names : collection of str
        Names of its groups.
    """

    pattern: str
    _quick: re.Pattern[str] | None
    _timed: Any

    @property
    def names(self) -> Any:
        """Names of its groups."""
        return self._timed.groupindex

    def search(self, setting: str, path: str) -> Any:
        """Return the first match in a path, or None.

        Parameters
        ----------
        setting, path : str
            Name of the setting, for the message; where to search.

        Raises
        ------
        ConfigError
            If it takes longer than `SECONDS`.
        """
        if self._quick and len(path) <= _LONG:
            return self._quick.search(path)
        try:
            return self._timed.search(path, timeout=SECONDS)
        except TimeoutError:
            raise ConfigError(
                f"{setting} {self.pattern!r} took longer than {SECONDS:g} s at {path!r}; simplify "
                "it: no repetition inside a repetition, such as (a+)+"
            ) from None


@cache
def expression(pattern: str) -> Expression:
    """Compile an expression.

    A plain one needs no clock in a short path: it takes a quarter of a second at most. The clock
    takes 2 us a path, a tenth of the time of a listing.

    Raises
    ------
    ValueError
        If it is not a regular expression.
    """
    try:
        timed = regex.compile(pattern)
        return Expression(pattern, re.compile(pattern) if is_plain(pattern) else None, timed)
    except (regex.error, re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error


def is_plain(pattern: str) -> bool:
    """Return whether a search with an expression has few ways to go on.

    No group is repeated or referred to, and a repetition of a character counts four, a choice
    (``|`` or ``?``) one, eight in all. A repetition has at most `_LONG` + 1 ways to go on and a
    choice multiplies the ways by two at most, so there are at most 257^2 ways from each place.
    """
    pattern = _KNOWN.sub("(", pattern)
    ways = sum(4 if mark in "*+" else 1 for mark in re.findall(r"[*+|?]", pattern))
    return ways <= 8 and not _RISKY.search(pattern)
