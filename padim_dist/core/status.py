"""Values of the columns ``status`` and ``label``."""

from __future__ import annotations

SCORED = "scored"
UNREADABLE = "unreadable"
MISSING = "missing"
CHANGED = "changed"
TOO_LARGE = "too_large"
NO_MODEL = "no_model"
"""The model has no Gaussian for the image's group."""
FITTED = "fitted"
"""Only in metrics: a normal image whose embedding is in the moments."""

STATUSES = (SCORED, UNREADABLE, MISSING, CHANGED, TOO_LARGE, NO_MODEL)
"""All statuses of rows in a score table."""
SETTLED = (SCORED, UNREADABLE, TOO_LARGE, NO_MODEL)
"""Statuses that a retry cannot change while object and model stay the same."""

GOOD = "good"
"""Label of a normal image."""
