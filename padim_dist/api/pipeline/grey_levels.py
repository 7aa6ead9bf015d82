"""Groups whose images use few grey levels, as those of a 12-bit camera in 16-bit files do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow
from padim_dist.errors import ImageError
from padim_dist.pages.words import counted, listed

LEAST = 32
"""Level of 255 that the brightest pixel of a group reaches, unless its images use few levels."""
REMEDY = (
    "if these are 16-bit files of a camera with fewer bits, set archive.bits to them (12 for a "
    "12-bit camera) and fit again"
)


def few_levels(brightest: Mapping[str, int]) -> str | None:
    """Return a sentence about the groups whose images use few grey levels; None if there is none.

    Parameters
    ----------
    brightest : mapping of str to int
        The highest level (0 to 255) of the images of each group.

    Examples
    --------
    >>> few_levels({"flange": 16, "bolt": 250})
    "few grey levels in 1 group: 'flange' at most 16 of 255"
    """
    few = [f"{group!r} at most {level} of 255" for group, level in brightest.items()]
    few = [text for text, level in zip(few, brightest.values(), strict=True) if level < LEAST]
    return f"few grey levels in {counted(len(few), 'group')}: {listed(few)}" if few else None


def sampled_levels(rows: Iterable[ImageRow], reader: ImageReader) -> dict[str, int]:
    """Read images, and return the highest level in each group; what cannot be read is left out."""
    brightest: dict[str, int] = {}
    for row in rows:
        try:
            level = int(reader.load_original(row).max())
        except ImageError:
            continue
        if row.group is not None:
            brightest[row.group] = max(level, brightest.get(row.group, 0))
    return brightest
