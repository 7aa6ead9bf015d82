"""When a picture was taken, by its EXIF data. Damaged data are none."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from PIL import Image

from padim_dist.archive.reading.formats import jpeg, tiff
from padim_dist.archive.reading.formats.kinds import kind_of
from padim_dist.archive.reading.formats.pieces import png_exif, webp_exif
from padim_dist.archive.reading.formats.problems import DAMAGE
from padim_dist.archive.times import in_utc

_EXIF, _ORIGINAL, _ZONE = 0x8769, 0x9003, 0x9011
"""Numbers of the tags ExifIFD, DateTimeOriginal and OffsetTimeOriginal."""
_LONGEST = 2**20
"""Most bytes of EXIF data that are read."""


def captured_at(data: bytes) -> datetime | None:
    """Return when a picture was taken, UTC; None if its file does not say so.

    That is the tag DateTimeOriginal with OffsetTimeOriginal; without an offset it is taken as UTC.
    """
    with suppress(*DAMAGE):
        kind = kind_of(data)
        if kind == "TIFF":
            return _time_of(*tiff.read_times(data))
        exif = None
        if kind == "JPEG":
            exif = jpeg.exif_of(data)
        elif kind == "PNG":
            exif = png_exif(data)
        elif kind == "WebP":
            exif = webp_exif(data)
        return time_of_exif(exif)
    return None


def time_of_exif(exif: bytes | None) -> datetime | None:
    """Return when a picture was taken, UTC, by its EXIF data; None if they do not say so."""
    if not exif or len(exif) > _LONGEST:
        return None
    with suppress(*DAMAGE):
        tags = Image.Exif()
        tags.load(exif)
        own = tags.get_ifd(_EXIF)
        return _time_of(own.get(_ORIGINAL), own.get(_ZONE))
    return None


def _time_of(original: object, offset: object) -> datetime | None:
    """Return the time of the two tags, e.g. ``2026:11:26 23:15:00`` and ``+09:00``."""
    if not isinstance(original, str):
        return None
    when = datetime.strptime(original.strip("\0 "), "%Y:%m:%d %H:%M:%S")
    with suppress(ValueError):
        if isinstance(offset, str):
            when = datetime.strptime(f"{when:%Y%m%d%H%M%S}{offset.strip()}", "%Y%m%d%H%M%S%z")
    return in_utc(when)
