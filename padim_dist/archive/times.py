"""When an image was taken, by its path: ``archive.time``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from padim_dist.archive.expressions import expression
from padim_dist.archive.films.names import frame_time
from padim_dist.archive.rows import ImageRow


@dataclass(frozen=True)
class PathTime:
    """A rule that finds the time of an image in its path.

    Attributes
    ----------
    pattern, format : str
        Regular expression with a group named ``time``; format of `datetime.strptime` of that group.
    root : str
        Folder (or tar file) of the archive; only what follows is searched.
    """

    pattern: str
    format: str
    root: str = ""

    def find(self, row: ImageRow) -> datetime | None:
        r"""Return the time of an image, UTC; None if its path has none.

        A time without a zone is taken as UTC. That of a film is its start.

        Raises
        ------
        ConfigError
            If the search takes too long.

        Examples
        --------
        >>> rule = PathTime(r"(?P<time>\d{8}T\d{4})", "%Y%m%dT%H%M", "/photos")
        >>> row = ImageRow("", "/photos/cam/20261126T2315.jpg", None, 0, 1, 1, None, "cam", "test")
        >>> rule.find(row).isoformat()
        '2026-11-26T23:15:00+00:00'
        """
        path = row.uri.removeprefix(self.root).lstrip("/")
        path = f"{path}/{row.member}" if row.member else path
        match = expression(self.pattern).search("archive.time.path", path)
        if match is None or not match["time"]:
            return None
        try:
            in_film = timedelta(milliseconds=frame_time(row) or 0)
            return in_utc(datetime.strptime(match["time"], self.format)) + in_film
        except (ValueError, OverflowError):  # digits that are no time
            return None


def in_utc(when: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken as UTC.

    Raises
    ------
    OverflowError
        If it is then before the year 1 or after the year 9999.
    """
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
