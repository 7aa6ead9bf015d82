"""Image sets in the layout of MVTec AD."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from padim_dist.archive.listing.layouts.base import IMAGE_SUFFIXES
from padim_dist.archive.listing.layouts.mvtec import find_place
from padim_dist.core.status import GOOD
from padim_dist.errors import RequestError

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut"),
    *("pill", "screw", "toothbrush", "transistor", "zipper"),
)


@dataclass(frozen=True)
class Picture:
    """An image of a set.

    Attributes
    ----------
    path : Path
        Its file.
    label : str
        ``good``, or the kind of its defect.
    mask : Path or None
        Ground truth of a defective image; None of a normal one, or if it is missing.
    """

    path: Path
    label: str
    mask: Path | None = None

    @property
    def is_anomalous(self) -> bool:
        """Whether it shows a defect."""
        return self.label != GOOD


@dataclass(frozen=True)
class ImageSet:
    """A set: normal training images and test images.

    Attributes
    ----------
    name : str
        Name of its folder; ``mvtec_`` in front is left out, so that it is that of the category.
    root : Path
        Its folder.
    train, test : tuple of Picture
        Sorted by path.
    """

    name: str
    root: Path
    train: tuple[Picture, ...]
    test: tuple[Picture, ...]

    @property
    def digest(self) -> str:
        """Digest of the names and sizes of its files: results of another state are not used."""
        files = [p.path for p in (*self.train, *self.test)]
        files += [p.mask for p in self.test if p.mask]
        return digest_of(self.root, files)


def digest_of(root: Path, files: Iterable[Path]) -> str:
    """Return a digest of the names and sizes of files below a folder."""
    lines = [f"{path.relative_to(root)} {path.stat().st_size}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def find_sets(folders: Iterable[Path]) -> list[ImageSet]:
    """Return the sets in folders, which are sets or contain sets, sorted by name.

    Raises
    ------
    RequestError
        If two sets have the same name: their results would have the same place.
    """
    found: dict[str, ImageSet] = {}
    for folder in folders:
        for train in sorted(folder.rglob("train/good")):
            one = read_set(train.parents[1])
            if one.name in found and found[one.name].root != one.root:
                raise RequestError(
                    f"{one.root} and {found[one.name].root} have the same name, {one.name!r}; "
                    "rename one of the folders"
                )
            found[one.name] = one
    return [found[name] for name in sorted(found)]


def read_set(root: Path) -> ImageSet:
    """List the images of a set.

    Raises
    ------
    RequestError
        If it has no training images, or lacks normal or defective test images.
    """
    pictures: dict[str, list[Picture]] = {"train": [], "test": []}
    for path in sorted(root.rglob("*")):
        place = find_place(str(path.relative_to(root)))
        if place is None or place.label is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        masks = [root / mask for mask in place.mask if (root / mask).exists()]
        pictures[place.split].append(Picture(path, place.label, masks[0] if masks else None))
    labels = {picture.is_anomalous for picture in pictures["test"]}
    if not pictures["train"] or labels != {True, False}:
        raise RequestError(
            f"{root} has {len(pictures['train'])} training images and "
            f"{len(pictures['test'])} test images; a set in MVTec's layout needs images in "
            "train/good, test/good and test/<defect>"
        )
    name = root.resolve().name.removeprefix("mvtec_")
    return ImageSet(name, root, tuple(pictures["train"]), tuple(pictures["test"]))
