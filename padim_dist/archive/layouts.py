"""What the files of an archive are: which image is normal, whose it is, what is known of it.

A layout is a pure function from a path inside the archive to a `Place`; files that
are not images, or have no place in the layout, are counted and left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from padim_dist.archive.manifest import MANIFEST_SCHEMA, image_id
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder, object_tag

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


@dataclass(frozen=True)
class Listing:
    """The images of an archive.

    Attributes
    ----------
    images : pyarrow.Table
        `MANIFEST_SCHEMA`, unsorted, column `shard` not yet filled.
    ignored : mapping of str to int
        Number of files left alone, by suffix or reason.
    """

    images: pa.Table
    ignored: Mapping[str, int]


def list_images(archive: Folder, layout: Layout, group: str | None) -> Listing:
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

    Raises
    ------
    ArchiveError
        If there is no such folder, or no image in it.
    """
    if not archive.exists():
        raise ArchiveError(f"archive.url {archive.url} does not exist; give an existing folder")
    if archive.fs.isfile(archive.url):
        raise ArchiveError(f"archive.url {archive.url} is a file; give a folder, or layout: table")
    files = dict(_files(archive))
    ignored: Counter[str] = Counter()
    rows: dict[str, list[Any]] = {name: [] for name in MANIFEST_SCHEMA.names}
    for path, info in files.items():
        suffix = PurePosixPath(path).suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            link = "links to folders, which are not followed" if info.get("islink") else None
            ignored[suffix or link or "(no suffix)"] += 1
            continue
        if not _is_utf8(path):
            ignored["names that are not UTF-8"] += 1
            continue
        place = layout(path)
        if place is None:
            ignored["masks and images outside the layout"] += 1
            continue
        mask = next((m for m in place.mask if m in files), None)
        size = int(info["size"] or 0)
        rows["image_id"].append(image_id(path))
        rows["uri"].append(archive.at(path))
        rows["member"].append(None)
        rows["offset"].append(0)
        rows["length"].append(size)
        rows["size"].append(size)
        rows["etag"].append(object_tag(info))
        rows["group"].append(find_group(path, group))
        rows["split"].append(place.split)
        rows["label"].append(place.label)
        rows["mask_uri"].append(archive.at(mask) if mask else None)
        rows["shard"].append(0)
    if not rows["uri"]:
        found = ", ".join(f"{n} {what}" for what, n in ignored.most_common(5)) or "nothing at all"
        raise ArchiveError(
            f"archive.url {archive.url} has no image in this layout (found: {found}); images end "
            f"in {', '.join(sorted(IMAGE_SUFFIXES))}. Check archive.url and archive.layout"
        )
    return Listing(pa.table(rows, schema=MANIFEST_SCHEMA), dict(ignored))


def find_group(path: str, pattern: str | None) -> str | None:
    """Group that a regular expression finds in a path; None where it finds none."""
    if pattern is None:
        return ONE_GROUP
    match = re.search(pattern, path)
    return (match["group"] or None) if match else None


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _files(archive: Folder) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Paths inside the archive and what the store tells of them."""
    fs = archive.fs
    root = fs._strip_protocol(archive.url).rstrip("/") + "/"
    for path, info in fs.find(archive.url, detail=True).items():
        if info.get("islink"):
            info = fs.info(path)  # of what it points to, as reading it does
        yield path.removeprefix(root), info
