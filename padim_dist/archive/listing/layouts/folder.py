"""What the files of an archive are: which image is normal, whose it is, what is known of it.

A layout is a pure function from a path inside the archive to a `Place`; files that
are not images, or have no place in the layout, are counted and left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from padim_dist.archive.listing.cut import image_id
from padim_dist.archive.listing.spool import Batch, Spool
from padim_dist.archive.listing.walk import Page, walk
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
ONE_GROUP = "all"
"""Name of the only group where no regular expression is given."""


@dataclass(frozen=True)
class Place:
    """Where an image stands in its archive.

    Attributes
    ----------
    split : str
        ``"train"``: normal, to be fitted on; ``"test"``: to be judged.
    label : str or None
        What is known of it: ``"good"``, or a kind of defect.
    mask : tuple of str
        Paths inside the archive where its mask may lie.
    """

    split: str
    label: str | None = None
    mask: tuple[str, ...] = ()


Layout = Callable[[str], Place | None]

_MVTEC = re.compile(r"^(?P<root>(?:.*/)?)(?P<split>train|test)/(?P<label>[^/]+)/[^/]+$")


def mvtec(path: str) -> Place | None:
    """Layout of MVTec AD: ``train/good``, ``test/<label>``, ``ground_truth/<label>``.

    Any number of folders may stand in front, so that a folder of many products reads
    in one go.

    Examples
    --------
    >>> mvtec("bottle/test/crack/001.png").mask
    ('bottle/ground_truth/crack/001_mask.png', 'bottle/ground_truth/crack/001.png')
    """
    match = _MVTEC.match(path)
    if match is None or (match["split"] == "train" and match["label"] != "good"):
        return None
    if match["label"] == "good":
        return Place(match["split"], "good")
    stem = f"{match['root']}ground_truth/{match['label']}/{PurePosixPath(path).stem}"
    return Place("test", match["label"], (f"{stem}_mask.png", f"{stem}.png"))


def folder(train: str) -> Layout:
    """Layout of any folder: paths in which `train` is found are normal, all others are judged."""
    pattern = re.compile(train)

    def place(path: str) -> Place:
        return Place("train" if pattern.search(path) else "test")

    return place


def list_images(
    archive: Folder,
    layout: Layout,
    group: str | None,
    spool: Spool,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """List the images of an archive.

    Parameters
    ----------
    archive : Folder
        Where the images lie.
    layout : callable
        From a path inside the archive to its `Place`, None for no image of it.
    group : str or None
        Regular expression with a group named ``group``; searched in the path inside
        the archive. An image that it does not match has no group: it is never
        fitted, and becomes a row that says so.
    spool : Spool
        Takes the rows.
    tell : callable, optional
        Is told how many files were listed so far.

    Raises
    ------
    ArchiveError
        If there is no such folder, no image in it, or it cannot be listed.
    """
    if not archive.exists():
        raise ArchiveError(f"archive.url {archive.url} does not exist; give an existing folder")
    if archive.fs.isfile(archive.url):
        raise ArchiveError(
            f"archive.url {archive.url} is a file; give a folder, or layout: tar or table"
        )
    listed = 0
    for page in walk(archive):
        spool.add(_sort_out(archive, page, layout, group))
        listed += len(page.files)
        tell(listed)
    if not spool.images:
        raise ArchiveError(
            f"archive.url {archive.url} has no image in this layout (found: "
            f"{summary(spool.ignored)}); images end in {', '.join(sorted(IMAGE_SUFFIXES))}. Check "
            "archive.url and archive.layout"
        )


def summary(ignored: Counter[str]) -> str:
    """What was found instead of images, for people."""
    return ", ".join(f"{n} {what}" for what, n in ignored.most_common(5)) or "nothing at all"


def _sort_out(archive: Folder, page: Page, layout: Layout, group: str | None) -> Batch:
    batch = Batch(ignored=Counter(page.ignored))
    for file in page.files:
        suffix = PurePosixPath(file.path).suffix.lower()
        uri = archive.at(file.path)
        if suffix not in IMAGE_SUFFIXES:
            batch.ignored[suffix or "(no suffix)"] += 1
        elif (place := layout(file.path)) is None:
            batch.ignored["masks and images outside the layout"] += 1
            batch.masks.append({"path": file.path, "uri": uri, "object": uri, "offset": 0})
        else:
            batch.images.append(
                {
                    "image_id": image_id(file.path),
                    "uri": uri,
                    "offset": 0,
                    "length": file.size,
                    "size": file.size,
                    "etag": file.tag,
                    "group": find_group(file.path, group),
                    "split": place.split,
                    "label": place.label,
                    "masks": place.mask,
                }
            )
    return batch


def find_group(path: str, pattern: str | None) -> str | None:
    """Group that a regular expression finds in a path; None where it finds none."""
    if pattern is None:
        return ONE_GROUP
    match = re.search(pattern, path)
    return (match["group"] or None) if match else None
