"""Section of retention: how long the files of a workspace are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from padim_dist.config.base import Section

Term = Annotated[timedelta, Field(ge=timedelta(days=1))]
"""A time such as ``30d``, at least a day: no night lasts as long."""


class RetentionConfig(Section):
    """How long the files of a workspace are kept, counted from their last change.

    Null: always. What something that is kept needs stays with it; `padim-dist prune` says why.
    """

    heatmaps: Term | None = None
    """Heatmaps of finished runs, e.g. ``30d``. Scores and regions stay."""
    runs: Term | None = None
    """Finished runs, e.g. ``400d``, and the pictures of nights. Their counts stay."""
    models: Term | None = None
    """Models that were never promoted."""
    moments: Term | None = None
    """Moments of normal images, from which fits make models without reading images."""
    manifests: Term | None = None
    """Lists of the images of the archive, and of the changes from one to the next."""
    attempts: Term = timedelta(days=7)
    """Half-done fits, runs and indexes that nobody continues."""
