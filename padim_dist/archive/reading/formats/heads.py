"""Size and orientation of a picture, from the first bytes of its file."""

from __future__ import annotations

from dataclasses import dataclass

from padim_dist.archive.reading.formats import jpeg, pillow, tiff
from padim_dist.archive.reading.formats.kinds import kind_of
from padim_dist.archive.reading.formats.problems import named
from padim_dist.archive.reading.formats.upright import is_sideways, orientation_of


@dataclass(frozen=True)
class Picture:
    """Size of a picture as it is shown, and its EXIF orientation (1: none)."""

    width: int
    height: int
    orientation: int = 1

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def is_sideways(self) -> bool:
        """Whether its width is the height in the file."""
        return is_sideways(self.orientation)


def head_of(data: bytes, max_pixels: int) -> Picture:
    """Return size and orientation of a file as `decode` shows it; EXIF that is not there is none.

    Raises
    ------
    ImageError
        If these bytes do not have them, or the picture is too large.
    """
    kind = kind_of(data)
    with named(kind):
        if kind == "JPEG":
            image = jpeg.open_jpeg(data, max_pixels)
            (width, height), orientation = image.size, orientation_of(image.info.get("exif"))
        elif kind == "TIFF":
            width, height, orientation = tiff.read_head(data)
        else:
            width, height, orientation = pillow.read_head(data, kind, max_pixels)
    if is_sideways(orientation):
        width, height = height, width
    return Picture(width, height, orientation)
