"""Names of films and of their frames: a row of a film is a frame, its member says when."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from padim_dist.archive.rows import ImageRow

FILM_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov"})
NO_PICTURES = "(no pictures)"
"""Member that stands for a film without a stream of pictures, or without a frame."""
_FRAME = re.compile(r"t=(-?)(\d+)\.(\d{3})")


def is_film(path: str) -> bool:
    """Return whether a path or URL is that of a film, by its suffix."""
    return PurePosixPath(path).suffix.lower() in FILM_SUFFIXES


def frame_name(milliseconds: int) -> str:
    """Return the member of a frame: its time in the film.

    Examples
    --------
    >>> frame_name(12_480), frame_name(-40)
    ('t=12.480', 't=-0.040')
    """
    seconds, rest = divmod(abs(milliseconds), 1000)
    return f"t={'-' if milliseconds < 0 else ''}{seconds}.{rest:03d}"


def frame_time(row: ImageRow) -> int | None:
    """Return the time of a frame in its film, in milliseconds; None for other rows.

    Examples
    --------
    >>> frame_time(ImageRow("", "cam/a.mp4", "t=12.480", 0, 9, 99, None, "cam", "test"))
    12480
    """
    match = _FRAME.fullmatch(row.member or "")
    if match is None or not is_film(row.uri):
        return None
    sign, seconds, rest = match.groups()
    milliseconds = 1000 * int(seconds) + int(rest)
    return -milliseconds if sign else milliseconds
