"""Layout ``folder``: any folders; paths that match ``archive.train`` are normal images."""

from __future__ import annotations

from padim_dist.archive.listing.layouts.base import Listing, Place, list_files
from padim_dist.archive.listing.spool import Spool


def list_images(listing: Listing, spool: Spool) -> None:
    """List the image files of an archive; see `list_files` for the errors."""
    list_files(listing, lambda path: Place(listing.find_split(path)), spool)
