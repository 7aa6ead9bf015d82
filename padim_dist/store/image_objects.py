"""What people say something about: an image as it was, not whatever is at its path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageObject:
    """An image and the tag of the object that it was in.

    Another archive may have an image of the same path, and a file may be replaced: `image_id` is
    the same then, and `etag` is not.

    Attributes
    ----------
    image_id : str
        Id of the image.
    etag : str or None
        Tag of the object, as in the manifest; None equals only None.
    """

    image_id: str
    etag: str | None


def ids_of(objects: Iterable[ImageObject]) -> set[str]:
    """Return the image ids of objects.

    Examples
    --------
    >>> ids_of([ImageObject("3f", "1"), ImageObject("3f", "2")])
    {'3f'}
    """
    return {one.image_id for one in objects}
