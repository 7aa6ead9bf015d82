"""Events for the report: flagged frames of films, joined over time, with strips of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from PIL import Image

from padim_dist.api.analysis.run_images import RunImages
from padim_dist.api.report.gallery import archive_url
from padim_dist.api.settings.places import logger
from padim_dist.api.sql.tables import image_name, read_rows
from padim_dist.archive.films.names import frame_time
from padim_dist.errors import ConfigError, PadimDistError, RunError
from padim_dist.events import Listener, Progress
from padim_dist.pages.cards import Event, Still
from padim_dist.pages.encode import SMALL_BYTES, SMALL_SIDE, encode
from padim_dist.store.runs.rows import ScoreRow

_MOST = 12
"""Events in the report, the most anomalous ones."""
_STILLS = 5
"""Frames of a strip."""


def find_events(
    connection: duckdb.DuckDBPyConnection, run: RunImages, listener: Listener
) -> tuple[list[Event], int]:
    """Return the events of a run, the most anomalous first, and how many more there are.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        With the views ``scores`` and ``events`` of the run.
    run : RunImages
        The run.
    listener : callable
        Receives events.
    """
    found = connection.sql(
        f'SELECT uri, "group", starts, ends, peak, score, p_value, frames, image_id, image_ids '
        f"FROM events LIMIT {_MOST}"
    ).fetchall()
    if not found:
        return [], 0
    ((count,),) = connection.sql("SELECT count(*) FROM events").fetchall()
    strips = [strip(image_ids, image_id) for *_, image_id, image_ids in found]
    stills = _stills(connection, run, strips, listener)
    events = [
        Event(
            image_id=image_id,
            group=group,
            path=image_name(archive_url(run), uri, None),
            starts=starts,
            ends=ends,
            peak=peak,
            score=score,
            p_value=p_value,
            frames=frames,
            stills=[stills[one] for one in chosen if one in stills],
        )
        for (uri, group, starts, ends, peak, score, p_value, frames, image_id, _), chosen in zip(
            found, strips, strict=True
        )
    ]
    return events, count - len(found)


def strip(image_ids: Sequence[str], peak: str, most: int = _STILLS) -> list[str]:
    """Return frames of an event that are evenly spread, the first, the last and the peak with them.

    Examples
    --------
    >>> strip("abcdefghi", "b", 4)
    ['a', 'b', 'f', 'i']
    """
    if len(image_ids) <= most:
        return [*image_ids]
    last = len(image_ids) - 1
    places = [round(i * last / (most - 1)) for i in range(most)]
    top = image_ids.index(peak)
    inner = min(range(1, most - 1), key=lambda i: abs(places[i] - top))
    if top not in places:
        places[inner] = top
    return [image_ids[place] for place in sorted(set(places))]


def _stills(
    connection: duckdb.DuckDBPyConnection,
    run: RunImages,
    strips: Sequence[Sequence[str]],
    listener: Listener,
) -> dict[str, Still]:
    """Return small pictures by image_id; those that cannot be read any more are left out."""
    wanted = [image_id for chosen in strips for image_id in chosen]
    marks = ", ".join("?" for _ in wanted)
    scored = connection.sql(f"FROM scores WHERE image_id IN ({marks})", params=wanted)
    manifest = run.manifest_rows(read_rows(ScoreRow, scored))
    stills: dict[str, Still] = {}
    for done, image_id in enumerate(wanted, 1):
        row = manifest[image_id]
        try:
            pixels = run.reader.load_original(row)
        except (RunError, ConfigError) as error:  # the store fails, or there is no PyAV
            logger.warning("events have no pictures: %s", error)
            break
        except (PadimDistError, OSError):
            continue
        picture = encode(Image.fromarray(pixels.permute(1, 2, 0).numpy()), SMALL_BYTES, SMALL_SIDE)
        stills[image_id] = Still((frame_time(row) or 0) / 1000, picture)
        listener(Progress("report events", len(wanted), done))
    return stills
