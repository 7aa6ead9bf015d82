"""Rows whose columns show that their image cannot be used."""

from __future__ import annotations

from padim_dist.archive.films.names import NO_PICTURES, frame_time, is_film
from padim_dist.archive.rows import TAIL, ImageRow, RefusedRow
from padim_dist.core.status import TOO_LARGE, UNREADABLE


def check(row: ImageRow, max_pixels: int) -> ImageRow | RefusedRow:
    """Refuse a row if its columns show that the image cannot be used."""
    status, reason = UNREADABLE, None
    end = row.offset + row.length
    if row.group is None:
        reason = "its path does not match archive.group, so it has no group"
    elif row.member in (TAIL, NO_PICTURES) and is_film(row.uri):
        reason = _lack_of_film(row)
    elif frame_time(row) is not None:
        return row
    elif row.member == TAIL:
        reason = (
            f"the tar file is damaged from byte {row.offset} of {row.size} on; the images "
            "there cannot be read"
        )
    elif row.member is not None and end > row.size:
        reason = (
            f"the tar file has {row.size} bytes and ends inside this member, which would end "
            f"at {end}"
        )
    elif row.member is not None and row.length == 0:
        reason = "the file is empty"
    elif row.length > 8 * max_pixels + 2**24:  # uncompressed 16-bit RGBA, and metadata
        status = TOO_LARGE
        reason = (
            f"{row.length} bytes are more than any image of archive.max_pixels = "
            f"{max_pixels} can have"
        )
    return row if reason is None else RefusedRow(row, status, reason)


def _lack_of_film(row: ImageRow) -> str:
    """Return why a row stands for what a film lacks."""
    if row.member == NO_PICTURES:
        return "the film has no stream of pictures that can be decoded, or no frame in it"
    if row.offset == 0:
        return "the film cannot be opened: it is cut or damaged, or no film"
    return "the film is cut or damaged; the frames after its last row cannot be read"
