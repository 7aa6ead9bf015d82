"""Section of the alignment of images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from padim_dist.config.base import Section


class AlignConfig(Section):
    """How far images may lie from the reference that they are aligned with."""

    shift: Annotated[float, Field(ge=0)] = 24.0
    """Largest shift along each axis, in pixels of the resized image (`model.resize`)."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest turn in degrees; 180: images may lie in any direction."""
    to: Annotated[str, Field(min_length=1)] = "median"
    """``median``: the median of normal images of each group, found by the first fit and kept; or
    the path or URL of a picture, for all groups."""
    number: Annotated[int, Field(ge=0)] = 0
    """Number of the median: another one makes another median, of the images that are there then."""
