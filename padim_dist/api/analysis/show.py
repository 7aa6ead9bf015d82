"""Show: one image of a run, what was found in it, and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from PIL import Image

from padim_dist.api.analysis.pictures import draw_image
from padim_dist.api.analysis.query import draft, plain
from padim_dist.api.analysis.tables import choose_run, progress_of
from padim_dist.api.analysis.top import image_name, run_views
from padim_dist.api.settings.places import workspace_of
from padim_dist.config import Config
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore

Screen = Callable[[Image.Image], None]
_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Region:
    """A part of an image that is not as it should be; see the regions table."""

    region: int
    area: int
    box: str
    peak: float
    p_value: float | None


@dataclass(frozen=True)
class ShowResult:
    """An image of a run: as in the score table, with its regions.

    `picture` is the file it was drawn to, None without one; `notes` say what to know.
    """

    run_id: str
    image_id: str
    image: str
    group: str | None
    label: str | None
    status: str
    error: str | None
    score: float | None
    p_value: float | None
    flagged: bool | None
    peak: str | None
    size: str | None
    picture: str | None
    notes: list[str]
    regions: list[Region]


def show(
    config: Config,
    _listener: Listener = ignore,
    *,
    image_id: str,
    run: str | None = None,
    out: str | None = None,
    screen: Screen | None = None,
) -> ShowResult:
    """Show an image of a run: the original beside its heat, with boxes of regions.

    Parameters
    ----------
    config : Config
        The configuration.
    image_id : str
        Of the score table, or its beginning.
    run : str, optional
        Id of the run, or its beginning; by default the newest.
    out : str, optional
        Path of a PNG or JPEG file for the picture.
    screen : callable, optional
        Is given the picture where there is no `out`.

    Raises
    ------
    RequestError
        If there is no such run or image, several images begin like this, or its run kept
        no heatmaps.
    ImageError
        If the image cannot be read any more.

    Examples
    --------
    >>> show(config, image_id="3ffa", out="3ffa.png").status       # doctest: +SKIP
    'scored'
    """
    if out is not None and Path(out).suffix.lower() not in _PICTURES:
        raise RequestError(f"--out {out}: a picture ends in {', '.join(_PICTURES)}")
    workspace = workspace_of(config)
    head = choose_run(workspace, run)
    connection = run_views(workspace, head)
    row = _find(connection, head["run_id"], image_id)
    regions = _dicts(
        connection.execute("FROM regions WHERE image_id = ? ORDER BY region", [row["image_id"]])
    )
    notes = [progress_of(head)]
    picture = None
    if row["status"] != "scored":
        notes.append("it was not scored: there is no picture")
    elif out is not None:
        drawn = draw_image(config, row, regions)
        with draft(out) as path:
            drawn.save(path, _PICTURES[Path(out).suffix.lower()], quality=90)
        picture = out
    elif screen is not None:
        screen(draw_image(config, row, regions))
    return ShowResult(
        **{name: row[name] for name in ("run_id", "image_id", "group", "label", "status", "error")},
        **{name: row[name] for name in ("score", "p_value", "flagged")},
        image=image_name(config, row["uri"], row["member"]),
        peak=None if row["peak_y"] is None else f"{row['peak_y']}, {row['peak_x']}",
        size=None if row["height"] is None else f"{row['height']} x {row['width']}",
        picture=picture,
        notes=[note for note in notes if note],
        regions=[
            Region(
                region=found["region"],
                area=found["area"],
                box="rows {top}-{bottom}, columns {left}-{right}".format(**found),
                peak=found["peak"],
                p_value=found["p_value"],
            )
            for found in regions
        ],
    )


def _find(connection: duckdb.DuckDBPyConnection, run_id: str, asked: str) -> dict[str, Any]:
    """Score row of the only image whose id begins like this."""
    found = _dicts(
        connection.execute(
            "FROM scores WHERE starts_with(image_id, ?) ORDER BY image_id LIMIT 9", [asked]
        )
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestError(
            f"run {run_id} has no image whose id begins with {asked!r}; 'padim-dist top' shows "
            "ids, 'padim-dist query \"SELECT image_id, uri FROM scores\"' all of them"
        )
    many = ", ".join(row["image_id"] for row in found[:8])
    raise RequestError(
        f"run {run_id} has several images whose id begins with {asked!r} ({many}"
        f"{', ...' if len(found) > 8 else ''}); give more of it"
    )


def _dicts(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [name for name, *_ in found.description or ()]
    return [dict(zip(names, map(plain, row), strict=True)) for row in found.fetchall()]
