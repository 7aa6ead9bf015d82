"""Setting ``model.roi``: which part of a picture is judged."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in shares of the picture's width and height."""
Area = str | tuple[Polygon, ...]
"""Path or URL of a mask, white inside; or polygons, whose union is inside."""

_EXAMPLE = "[[[0, 0.2], [1, 0.2], [1, 0.9], [0, 0.9]]]"


def _checked(value: Any) -> Any:
    """Return areas by group, or one area."""
    if isinstance(value, dict):
        if not value:
            raise ValueError("names no group; leave it out, or give each group its mask")
        return {str(group): _area(area) for group, area in value.items()}
    return value if value is None else _area(value)


def _area(value: Any) -> Area:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"an area is the path of a mask, or a list of polygons like {_EXAMPLE}")
    return tuple(_polygon(one) for one in value)


def _polygon(value: Any) -> Polygon:
    if not isinstance(value, list | tuple) or len(value) < 3:
        raise ValueError(f"a polygon is a list of three or more corners, as in {_EXAMPLE}")
    return tuple(_corner(one) for one in value)


def _corner(value: Any) -> tuple[float, float]:
    try:
        x, y = (float(number) for number in value)
    except (TypeError, ValueError):
        raise ValueError(f"a corner is [x, y], as in {_EXAMPLE}; found {value!r}") from None
    if not (isfinite(x) and isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(
            f"corners are shares of the picture, 0 to 1, not pixels; found [{x:g}, {y:g}]"
        )
    return x, y


Roi = Annotated[Area | dict[str, Area] | None, BeforeValidator(_checked)]
"""One area, an area for each group that is named, or None."""
