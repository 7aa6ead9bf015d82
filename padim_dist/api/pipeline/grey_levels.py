"""Groups whose images use few grey levels, as those of a 12-bit camera in 16-bit files do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

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


@dataclass
class SampledLevels:
    """What reading a few images showed.

    Attributes
    ----------
    read : int
        Number of images that could be read.
    brightest : mapping of str to int
        The highest level in each group.
    failures : list of str
        The images that could not be read, and why.
    """

    read: int = 0
    brightest: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def sampled_levels(
    rows: Iterable[ImageRow], reader: ImageReader, threads: Executor
) -> SampledLevels:
    """Read images, several at a time, and return the highest level in each group."""

    def level_of(row: ImageRow) -> int | ImageError:
        try:
            return int(reader.load_original(row).max())
        except ImageError as error:
            return error

    found, rows = SampledLevels(), [*rows]
    for row, level in zip(rows, threads.map(level_of, rows), strict=True):
        if isinstance(level, ImageError):
            found.failures.append(f"{row.uri} ({level})")
            continue
        found.read += 1
        if row.group is not None:
            found.brightest[row.group] = max(level, found.brightest.get(row.group, 0))
    return found
