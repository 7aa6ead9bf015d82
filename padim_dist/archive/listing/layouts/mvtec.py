"""Layout ``mvtec``: the folders of MVTec AD."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from padim_dist.archive.listing.layouts.base import Listing, Place, list_files
from padim_dist.archive.listing.spool import Spool
from padim_dist.core.status import GOOD

_PATH = re.compile(r"^(?P<root>(?:.*/)?)(?P<split>train|test)/(?P<label>[^/]+)/[^/]+$")


def list_images(listing: Listing, spool: Spool) -> None:
    """List the images of an archive in this layout; see `list_files` for the errors."""
    list_files(listing, find_place, spool)


def find_place(path: str) -> Place | None:
    """Read ``train/good``, ``test/<label>`` and ``ground_truth/<label>`` from a path.

    Any folders may stand in front, so an archive may hold many products.

    Examples
    --------
    >>> find_place("bottle/test/crack/001.png").mask
    ('bottle/ground_truth/crack/001_mask.png', 'bottle/ground_truth/crack/001.png')
    """
    match = _PATH.match(path)
    if match is None or (match["split"] == "train" and match["label"] != GOOD):
        return None
    if match["label"] == GOOD:
        return Place(match["split"], GOOD)
    stem = f"{match['root']}ground_truth/{match['label']}/{PurePosixPath(path).stem}"
    return Place("test", match["label"], (f"{stem}_mask.png", f"{stem}.png"))
