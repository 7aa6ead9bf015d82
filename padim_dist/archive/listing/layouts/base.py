"""Shared by the layouts: the archive to list, and the listing of image files in folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from padim_dist.archive.expressions import expression
from padim_dist.archive.films.every import EVERY
from padim_dist.archive.listing.spool import Batch, FoundImage, FoundMask, Spool
from padim_dist.archive.listing.walk import Page, walk
from padim_dist.archive.rows import image_id
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

EXCLUDED = "left out by archive.exclude"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})


@dataclass(frozen=True)
class Listing:
    """An archive to list.

    Attributes
    ----------
    archive : Folder
        ``archive.url``: a folder; a file in the layout ``table``, either in ``tar``.
    train : str
        Regular expression; an image whose path contains a match is normal.
    group : str or None
        Regular expression with a group named ``group``, searched in the path inside the archive.
        An image that it does not match has no group: it is never fitted, and its score row says so.
    tell : callable
        Receives the number of files (or rows) listed so far.
    exclude : str or None
        Regular expression; what has a path with a match is not part of the archive.
    allow : tuple of str
        Folders outside that of a table that its rows may name.
    workspace : str or None
        Path of the workspace inside the archive, which is not part of it.
    every : str
        Which frames of a film are rows: ``archive.video.every``.
    before : Path or None
        Parquet file with rows of frames, from a manifest that was made with the same settings.
    """

    archive: Folder
    train: str
    group: str | None
    tell: Callable[[int], None] = lambda _: None
    exclude: str | None = None
    allow: tuple[str, ...] = ()
    workspace: str | None = None
    every: str = EVERY
    before: Path | None = None

    def is_excluded(self, path: str) -> bool:
        """Return whether ``archive.exclude`` leaves a path out."""
        if self.exclude is None:
            return False
        return expression(self.exclude).search("archive.exclude", path) is not None

    def find_group(self, path: str) -> str | None:
        """Return the group of a path: None without a match, ``"all"`` without an expression."""
        if self.group is None:
            return "all"
        match = expression(self.group).search("archive.group", path)
        return (match["group"] or None) if match else None

    def find_split(self, path: str) -> str:
        """Return ``"train"`` for the path of a normal image, otherwise ``"test"``."""
        return "train" if expression(self.train).search("archive.train", path) else "test"


@dataclass(frozen=True)
class Place:
    """Split, label and masks of an image, from its path in the archive.

    Attributes
    ----------
    split : str
        ``"train"``: a normal image to fit on; ``"test"``: an image to judge.
    label : str or None
        ``"good"``, or a kind of defect; None if not known.
    mask : tuple of str
        Paths inside the archive where its mask may be.
    """

    split: str
    label: str | None = None
    mask: tuple[str, ...] = ()


def list_files(listing: Listing, place: Callable[[str], Place | None], spool: Spool) -> None:
    """List the image files below a folder.

    Parameters
    ----------
    listing, spool : Listing, Spool
        The archive, and the receiver of its rows.
    place : callable
        Maps a path inside the archive to its `Place`; None if the layout does not use the file.

    Raises
    ------
    ArchiveError
        If there is no such folder, it has no image, or it cannot be listed.
    """
    archive = listing.archive
    check_folder(archive)
    listed = 0
    for page in walk(archive, workspace=listing.workspace):
        spool.add(_sort_out(listing, page, place))
        listed += len(page.files)
        listing.tell(listed)
    if not spool.images:
        raise ArchiveError(
            f"archive.url {archive.url} has no image in this layout (found: "
            f"{summary(spool.ignored)}); images end in {', '.join(sorted(IMAGE_SUFFIXES))}. Check "
            "archive.url and archive.layout"
        )


def check_folder(archive: Folder) -> None:
    """Refuse an archive that is no folder.

    Raises
    ------
    ArchiveError
        If there is no such folder, or it is a file.
    """
    if not archive.exists():
        raise ArchiveError(f"archive.url {archive.url} does not exist; give an existing folder")
    if archive.fs.isfile(archive.url):
        raise ArchiveError(
            f"archive.url {archive.url} is a file; give a folder, or set archive.layout to tar or "
            "table"
        )


def refuse_unless_lasting(error: Exception, archive: Folder, uri: str) -> None:
    """Refuse an index that could not read a file, unless another one would not, either.

    A bad disk and no permission to read last: a row stands for what was not found.

    Raises
    ------
    ArchiveError
        If the store may be ill.
    """
    lasting = (OSError,) if archive.is_local else (FileNotFoundError, PermissionError)
    if not isinstance(error, lasting):
        raise ArchiveError(
            f"{uri} cannot be scanned ({type(error).__name__}: {error}). Run the same command "
            "again when it can be read"
        ) from error


def summary(ignored: Counter[str]) -> str:
    """Return the most frequent kinds of ignored files, with their numbers."""
    return ", ".join(f"{n} {what}" for what, n in ignored.most_common(5)) or "no files"


def _sort_out(listing: Listing, page: Page, place_of: Callable[[str], Place | None]) -> Batch:
    batch = Batch(ignored=Counter(page.ignored))
    for file in page.files:
        suffix = PurePosixPath(file.path).suffix.lower()
        uri = file.uri(listing.archive)
        if listing.is_excluded(file.path):
            batch.ignored[EXCLUDED] += 1
        elif suffix not in IMAGE_SUFFIXES:
            batch.ignored[suffix or "(no suffix)"] += 1
        elif (place := place_of(file.path)) is None:
            batch.ignored["masks and images outside the layout"] += 1
            batch.masks.append(FoundMask(file.path, uri, uri, 0))
        else:
            batch.images.append(
                FoundImage(
                    image_id=image_id(file.path),
                    uri=uri,
                    length=file.size,
                    size=file.size,
                    etag=file.tag,
                    group=listing.find_group(file.path),
                    split=place.split,
                    label=place.label,
                    masks=place.mask,
                )
            )
    return batch
