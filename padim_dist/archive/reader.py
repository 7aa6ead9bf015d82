"""Reading images ahead of whoever needs them, one outcome for each, never an exception."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from padim_dist.archive.decode import decode, decode_mask
from padim_dist.archive.objects import ObjectFetcher
from padim_dist.archive.transform import prepare, prepare_mask
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError

Item = TypeVar("Item")
Result = TypeVar("Result")

# An image of 16-bit RGBA pixels takes 8 bytes a pixel uncompressed; the rest is metadata.
_BYTES_A_PIXEL = 8
_BYTES_OF_METADATA = 16 * 2**20


@dataclass(frozen=True)
class LoadedImage:
    """What became of one image.

    Attributes
    ----------
    row : dict
        Its manifest row.
    pixels : Tensor or None
        uint8, shape (3, crop height, crop width); None if it could not be used.
    width, height : int or None
        Of the original image, in pixels, where known.
    status : str
        ``"scored"`` if it can be scored, otherwise why not.
    error : str or None
        The reason, for people.
    """

    row: dict[str, Any]
    pixels: Tensor | None = None
    width: int | None = None
    height: int | None = None
    status: str = "scored"
    error: str | None = None


@dataclass(frozen=True)
class ImageReader:
    """Reads, decodes and transforms the images of a manifest.

    Parameters
    ----------
    fetcher : ObjectFetcher
        Gets the bytes.
    geometry : InputGeometry
        The trunk's input.
    max_pixels : int
        Larger images are not decoded.
    """

    fetcher: ObjectFetcher
    geometry: InputGeometry
    max_pixels: int

    def load(self, row: dict[str, Any]) -> LoadedImage:
        """Load the image of a manifest row; whatever goes wrong is in the outcome."""
        try:
            if "refused" in row:
                raise ImageError("unreadable", row["refused"])
            if row["group"] is None:
                raise ImageError("unreadable", "its name does not match archive.group: no group")
            pixels = decode(self.fetch(row), self.max_pixels)
            height, width = pixels.shape[1:]
            return LoadedImage(row, prepare(pixels, self.geometry), width, height)
        except ImageError as error:
            return LoadedImage(row, status=error.status, error=error.reason)

    def load_mask(self, mask_uri: str) -> Tensor:
        """Load a ground-truth mask at the size of the crop: bool, (height, width).

        Raises
        ------
        ImageError, RunError
            As `fetch`; or if it cannot be decoded.
        """
        row = {"uri": mask_uri, "length": 0, "size": 0, "etag": None}
        return prepare_mask(decode_mask(self.fetch(row), self.max_pixels), self.geometry)

    def fetch(self, row: dict[str, Any]) -> bytes:
        """Bytes of a manifest row.

        Raises
        ------
        ImageError
            With the status ``missing``, ``changed``, ``unreadable`` or ``too_large``.
        RunError
            If the store keeps failing.
        """
        limit = _BYTES_A_PIXEL * self.max_pixels + _BYTES_OF_METADATA
        if row["length"] > limit:
            raise ImageError(
                "too_large",
                f"{row['length']} bytes are more than any image within archive.max_pixels = "
                f"{self.max_pixels} needs",
            )
        return self.fetcher.fetch(row)


def read_ahead(
    items: Iterable[Item], load: Callable[[Item], Result], threads: int, depth: int
) -> Iterator[Result]:
    """Map in threads and in order, at most `depth` items ahead of the consumer."""
    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as pool:
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
