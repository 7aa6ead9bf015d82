"""The outcome of reading one image."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from torch import Tensor

from padim_dist.archive.rows import ImageRow
from padim_dist.core.status import SCORED


@dataclass(frozen=True)
class LoadedImage:
    """Outcome of reading one image.

    Attributes
    ----------
    row : ImageRow
        Its manifest row.
    pixels : Tensor or None
        uint8, shape (3, crop height, crop width); None if it cannot be used or is not decoded yet.
    width, height : int or None
        Size of the original image in pixels, if known.
    status, error : str, str or None
        ``"scored"``, or another status word and the reason why it cannot be scored.
    encoded : bytes or None
        The file, if `ImageReader.finish` has to decode it.
    captured_at : datetime or None
        When it was taken, by its EXIF data; UTC.
    """

    row: ImageRow
    pixels: Tensor | None = None
    width: int | None = None
    height: int | None = None
    status: str = SCORED
    error: str | None = None
    encoded: bytes | None = None
    captured_at: datetime | None = None

    @property
    def is_usable(self) -> bool:
        """Whether there are pixels, or a file to decode."""
        return self.pixels is not None or self.encoded is not None
