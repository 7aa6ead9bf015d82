"""Section of films."""

from __future__ import annotations

from pydantic import field_validator

from padim_dist.archive.films.every import EVERY, Every
from padim_dist.config.base import Section


class VideoConfig(Section):
    """Which frames of films are images of the archive."""

    every: str = EVERY
    """Time between two frames, e.g. ``1s`` or ``0.2s``, or number of frames: ``1 frame`` for all.
    Frames that are further apart in the film than this are all taken, once."""

    @field_validator("every")
    @classmethod
    def _is_a_rule(cls, value: str) -> str:
        return str(Every.parse(value))  # one text for one rule: it identifies manifests
