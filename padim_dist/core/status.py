"""Values of the columns ``status`` and ``label``."""

from __future__ import annotations

from collections.abc import Mapping

SCORED = "scored"
UNREADABLE = "unreadable"
"""Its bytes are no image that can be decoded."""
MISSING = "missing"
CHANGED = "changed"
UNAVAILABLE = "unavailable"
"""The store refuses this object, or fails at it, and not at others."""
TIMEOUT = "timeout"
"""Reading or decoding it took longer than the deadline."""
TOO_LARGE = "too_large"
NO_MODEL = "no_model"
"""The model has no Gaussian for the image's group."""
FITTED = "fitted"
"""Only in metrics: a normal image whose embedding is in the moments."""

STATUSES = (SCORED, UNREADABLE, MISSING, CHANGED, UNAVAILABLE, TIMEOUT, TOO_LARGE, NO_MODEL)
"""All statuses of rows in a score table."""
SETTLED = (SCORED, UNREADABLE, TOO_LARGE, NO_MODEL)
"""Statuses that a retry cannot change while object and model stay the same."""
UNSETTLED = (MISSING, UNAVAILABLE, TIMEOUT)
"""Statuses whose reason is the world's and not the bytes': the same call tries them again."""

GOOD = "good"
"""Label of a normal image."""


def count_unsettled(statuses: Mapping[str, int]) -> int:
    """Return the rows that are not settled, given rows by status.

    Examples
    --------
    >>> count_unsettled({"scored": 5, "unreadable": 2, "missing": 1, "timeout": 1})
    2
    """
    return sum(rows for status, rows in statuses.items() if status in UNSETTLED)
