"""The head of an ordinary JPEG file: what a task wants to know of it, read in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from padim_dist.archive.reading.formats.upright import is_sideways, orientation_of

_SOS, _APP1 = 0xDA, 0xE1
_FRAMES = (0xC0, 0xC1)
"""Baseline and extended: the whole picture is one scan if it has all components."""
_OTHERS = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
"""Tables, restart interval, application data and comments."""
_EXIF = b"Exif\0"
_SEGMENT, _FRAME = Struct(">BBH"), Struct(">BHHB")


@dataclass(frozen=True, slots=True)
class JpegHead:
    """Size and components of a picture as they are in the file, and its EXIF data."""

    width: int
    height: int
    components: int
    exif: bytes | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the picture as it is shown."""
        if is_sideways(orientation_of(self.exif)):
            return self.width, self.height
        return self.height, self.width


def find_head(data: bytes) -> JpegHead | None:
    """Return the head of a file that begins as a JPEG; None if it is not an ordinary one.

    An ordinary file has 8 bits a sample, one or three components and one scan, and its segments
    follow each other. If libjpeg decodes it, nothing else has to look at it. `jpeg.open_jpeg` looks
    at all others, and at those that libjpeg refuses.
    """
    place, exif = 2, None
    width = height = components = 0
    while place + 12 < len(data):
        lead, marker, length = _SEGMENT.unpack_from(data, place)
        if lead != 0xFF:
            return None
        if marker == _SOS:
            is_whole = components and data[place + 4] == components
            return JpegHead(width, height, components, exif) if is_whole else None
        if marker in _FRAMES:
            bits, height, width, count = _FRAME.unpack_from(data, place + 4)
            is_second, components = components != 0, count
            is_usual = count in (1, 3) and length == 8 + 3 * count
            if is_second or bits != 8 or not is_usual or not width or not height:
                return None
        elif marker not in _OTHERS or length < 2:
            return None
        elif marker == _APP1 and exif is None and data.startswith(_EXIF, place + 4):
            exif = data[place + 4 : place + 2 + length]
        place += 2 + length
    return None
