"""Cameras that have moved: where the images of a night lie, against those of the model."""

from __future__ import annotations

import duckdb

from padim_dist.core.align.motion import Motion
from padim_dist.core.align.position import TO_DEVIATION, Position
from padim_dist.store.models import ModelInfo

_POSITIONS = """
"group", count(aligned), count(angle), median(shift_y), median(shift_x), median(angle),
greatest(mad(shift_y), mad(shift_x)), mad(angle)
"""


def moved_groups(scores: duckdb.DuckDBPyRelation, model: ModelInfo | None) -> dict[str, Motion]:
    """Return how far the images of each group lie from those of the model, where that is far.

    Parameters
    ----------
    scores : duckdb.DuckDBPyRelation
        Rows of the night's score tables.
    model : ModelInfo or None
        The model of the night; without it, or if it does not align images, nothing has moved.
    """
    if model is None or not model.positions:
        return {}
    rows = scores.filter("angle IS NOT NULL").aggregate(_POSITIONS, '"group"').fetchall()
    found = {}
    for group, images, aligned, y, x, angle, spread, turns in rows:
        usual = model.positions.get(group)
        here = Position(images, aligned, y, x, angle, TO_DEVIATION * spread, TO_DEVIATION * turns)
        if usual and (moved := here.moved_from(usual)):
            found[group] = moved
    return found


def moved_reason(moved: Motion) -> str:
    """Return in words how far a camera has moved: what it shows lies elsewhere.

    Examples
    --------
    >>> moved_reason(Motion(-12.25, 3.0, 0.2))     # doctest: +ELLIPSIS
    'camera moved by 12.6 pixels (12.2 up, 3.0 right): ...'
    """
    found = []
    down, right = moved.shift_y, moved.shift_x
    if max(abs(down), abs(right)) >= 1:
        length = (down**2 + right**2) ** 0.5
        ways = [(down, "down", "up"), (right, "right", "left")]
        each = [
            f"{abs(v):.1f} {one if v > 0 else other}" for v, one, other in ways if abs(v) >= 0.5
        ]
        found.append(f"{length:.1f} pixels ({', '.join(each)})")
    if abs(moved.angle) >= 0.5:
        way = "counterclockwise" if moved.angle > 0 else "clockwise"
        found.append(f"{abs(moved.angle):.1f} degrees {way}")
    return (
        f"camera moved by {' and '.join(found)}: so much do its images lie elsewhere than those of "
        "the model, in pixels of the resized image. Look at its mount, or fit a new model"
    )
