"""Cameras that have moved: where the images of a night lie, against those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import duckdb

from padim_dist.core.align.motion import Motion
from padim_dist.core.align.position import Position
from padim_dist.store.models import ModelInfo

NEW_MODEL = (
    "or fit a new model with another model.align.number, which finds the median of the images that "
    "are there now (fit.window says which)"
)
"""What to do with a model whose reference shows a camera as it was."""


@dataclass(frozen=True)
class Camera:
    """What the images of a night say of their camera: at most one is not None.

    Attributes
    ----------
    moved : Motion or None
        How far they lie from those of the model, where that is far.
    unaligned : str or None
        That far more of them could not be aligned than of those of the model.
    """

    moved: Motion | None = None
    unaligned: str | None = None


def night_cameras(
    scores: duckdb.DuckDBPyRelation, model: ModelInfo | None
) -> dict[str | None, Camera]:
    """Return what the images of each group say of their camera.

    Parameters
    ----------
    scores : duckdb.DuckDBPyRelation
        Rows of the night's score tables.
    model : ModelInfo or None
        The model of the night; without it, or if it does not align images, nothing is known.
    """
    if model is None or not model.positions:
        return {}
    found = {}
    for group, motions in groupby(_motions(scores), key=lambda row: row[0]):
        usual = model.positions.get(group)
        if usual is None:
            continue
        here = Position.of([motion for _, motion in motions])
        unaligned = _unaligned(here, usual) if here.lost_from(usual) else None
        moved = None if unaligned else here.moved_from(usual)
        found[group] = Camera(moved, unaligned)
    return found


def _motions(scores: duckdb.DuckDBPyRelation) -> Iterator[tuple[str, Motion | None]]:
    """Yield group and motion of each image that was to be aligned, group by group."""
    rows = scores.filter('aligned IS NOT NULL AND "group" IS NOT NULL')
    rows = rows.project('"group", shift_y, shift_x, angle').order('"group"')
    for group, *motion in rows.fetchall():
        yield group, None if motion[-1] is None else Motion(*motion)


def _unaligned(here: Position, usual: Position) -> str:
    """Return in words that images cannot be aligned any more.

    Examples
    --------
    >>> usual = Position(100, 95, 0.0, 0.0, 0.0, 1.0, 0.1)
    >>> _unaligned(Position(40, 2, 0.0, 0.0, 0.0, 1.0, 0.1), usual)     # doctest: +ELLIPSIS
    '38 of 40 images could not be aligned (5 % in the model): the camera ...'
    """
    share = 100 * (1 - usual.aligned / usual.images)
    return (
        f"{here.images - here.aligned:,} of {here.images:,} images could not be aligned "
        f"({share:.0f} % in the model): the camera has moved beyond model.align.shift and "
        "model.align.rotate, is covered, or shows something else. They are judged as they are. "
        f"Look at it, {NEW_MODEL}"
    )


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
        f"the model, in pixels of the resized image. Look at its mount, {NEW_MODEL}"
    )
