"""Show: one image of a run, its regions and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from padim_dist.api.analysis.pictures import draw_image
from padim_dist.api.analysis.query import draft
from padim_dist.api.settings.lookup import progress_note
from padim_dist.api.settings.places import ConfigLike, archive_of, as_config
from padim_dist.api.sql.known_images import find_images, rows_of_run
from padim_dist.api.sql.tables import image_name, read_rows
from padim_dist.api.sql.views import run_views
from padim_dist.core.status import SCORED
from padim_dist.errors import RequestError
from padim_dist.events import Listener, ignore
from padim_dist.store.runs.rows import RegionRow, ScoreRow

if TYPE_CHECKING:
    from padim_dist.api.analysis.explain.why import Why

Screen = Callable[[Image.Image], None]
_COPIED = ("run_id", "image_id", "group", "label", "status", "error", "score", "p_value", "flagged")
_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class ShownRegion:
    """An anomalous region of an image; see the table of regions."""

    region: int
    area: int
    box: str
    peak: float
    p_value: float | None


@dataclass(frozen=True)
class ShowResult:
    """An image of a run, as in the score table, with its regions.

    `picture` is the file that was drawn, if any; `notes` are remarks. `why` is None unless asked.
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
    regions: list[ShownRegion]
    why: Why | None = None


def show(
    config: ConfigLike,
    _listener: Listener = ignore,
    *,
    image_id: str,
    run: str | None = None,
    out: str | None = None,
    screen: Screen | None = None,
    why: bool = False,
) -> ShowResult:
    """Show an image of a run: the original next to its heatmap, with boxes of regions.

    With `why` the picture also has the region enlarged, and the most similar normal image.

    Parameters
    ----------
    config : Config or path
        The configuration.
    image_id : str
        Id from the score table, a unique prefix, or the path in the archive as `top` prints it.
    run : str, optional
        Id of the run, or a unique prefix; by default the newest finished run.
    out : str, optional
        Path of a PNG or JPEG file for the picture.
    screen : callable, optional
        Receives the picture if there is no `out`.
    why : bool, optional
        Tell what the score consists of, and find the most similar normal image: the image is read
        and embedded again, in this process.

    Raises
    ------
    RequestError
        If there is no such run or image, several ids have this prefix, or the run kept no
        heatmaps.
    ImageError
        If the image cannot be read any more.

    Examples
    --------
    >>> show(config, image_id="3ffa", out="3ffa.png").status       # doctest: +SKIP
    'scored'
    """
    if out is not None and Path(out).suffix.lower() not in _PICTURES:
        raise RequestError(f"--out {out}: the name of a picture ends in {', '.join(_PICTURES)}")
    config = as_config(config)
    head, connection = run_views(config, run)
    archive = archive_of(config).url
    named = find_images(connection, [image_id], archive, rows_of_run(head.run_id))[image_id]
    found = connection.sql("FROM scores WHERE image_id = ?", params=[named.image_id])
    (row,) = read_rows(ScoreRow, found)
    query = "FROM regions WHERE image_id = ? ORDER BY region"
    regions = read_rows(RegionRow, connection.sql(query, params=[row.image_id]))
    notes, explained = progress_note(head), None
    if row.status != SCORED:
        notes.append("the image was not scored, so there is no picture")
    else:
        if row.aligned == 0:
            notes.append("the image could not be aligned with the reference: judged as it is")
        draw: Callable[[], Image.Image] = partial(draw_image, config, row, regions)
        if why:
            from padim_dist.api.analysis.explain.why import Explanation

            explained = Explanation(config, connection, row, regions)
            draw = explained.draw
        if out is not None:
            drawn = draw()
            with draft(out) as path:
                drawn.save(path, _PICTURES[Path(out).suffix.lower()], quality=90)
        elif screen is not None:
            screen(draw())
    return ShowResult(
        **{name: getattr(row, name) for name in _COPIED},
        image=image_name(archive, row.uri, row.member),
        peak=None if row.peak_y is None else f"{row.peak_y}, {row.peak_x}",
        size=None if row.height is None else f"{row.height} x {row.width}",
        picture=out if row.status == SCORED else None,
        notes=[*notes, *(explained.notes if explained else ())],
        regions=[ShownRegion(r.region, r.area, _box(r), r.peak, r.p_value) for r in regions],
        why=explained.why if explained else None,
    )


def _box(region: RegionRow) -> str:
    return f"rows {region.top}-{region.bottom}, columns {region.left}-{region.right}"
