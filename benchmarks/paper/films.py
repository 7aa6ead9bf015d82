"""Frames of fixed cameras as tables that the pipeline reads (section IV-A, Table IV).

Two layouts are known:

- clips with a list: ``train/<clip>/<frame>``, ``test/<clip>/<frame>``,
  ``ground_truth/<clip>/<frame>.png``, and ``test_frames.csv`` (clip, frame, anomalous);
- ShanghaiTech Campus: ``training/frames`` and ``testing/frames`` with a folder
  ``<scene>_<clip>`` of frames for each clip, and in ``testing`` two arrays for each clip:
  ``test_frame_mask/<clip>.npy`` (frames,), ``test_pixel_mask/<clip>.npy`` (frames, height, width).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.paper.sets import digest_of
from padim_dist.archive.listing.layouts.base import IMAGE_SUFFIXES
from padim_dist.core.status import GOOD
from padim_dist.local_files import write_local

ANOMALOUS = "anomalous"
_COLUMNS = ("uri", "group", "split", "label", "mask_uri")


@dataclass(frozen=True)
class Frame:
    """A frame, as a row of a table.

    Attributes
    ----------
    path : Path
        Its file.
    scene : str
        Its camera: each has a model of its own.
    split : str
        ``train`` or ``test``.
    is_anomalous : bool
        Whether something in it is.
    mask : Path or None
        Which pixels are.
    """

    path: Path
    scene: str
    split: str
    is_anomalous: bool = False
    mask: Path | None = None


@dataclass(frozen=True)
class Films:
    """The frames of fixed cameras.

    Attributes
    ----------
    name : str
        Name of the folder.
    root : Path
        The folder.
    """

    name: str
    root: Path

    @property
    def digest(self) -> str:
        """Digest of the names and sizes of its files."""
        return digest_of(self.root, sorted(p for p in self.root.rglob("*") if p.is_file()))

    def write_table(self, folder: Path) -> Path:
        """Write the frames as a table of the layout ``table``; masks in arrays become files."""
        is_campus = (self.root / "testing").is_dir()
        frames = _campus(self.root, folder / "masks") if is_campus else _clips(self.root)
        table = folder / "frames.csv"
        write_local(str(table), lambda draft: _write(draft, frames))
        return table


def find_films(folders: Iterable[Path]) -> list[Films]:
    """Return the films in folders, which are films or contain films, sorted by path."""
    roots: set[Path] = set()
    for folder in folders:
        roots |= {path.parent for path in folder.rglob("test_frames.csv")}
        roots |= {path.parents[1] for path in folder.rglob("testing/test_frame_mask")}
    return [Films(root.resolve().name, root) for root in sorted(roots)]


def _clips(root: Path) -> Iterator[Frame]:
    for path in _images(root / "train"):
        yield Frame(path, root.resolve().name, "train")
    with (root / "test_frames.csv").open(newline="") as file:
        anomalous = {
            (row["clip"], row["frame"]): row["anomalous"] == "1" for row in csv.DictReader(file)
        }
    for path in _images(root / "test"):
        clip, frame = path.parent.name, path.stem
        mask = root / "ground_truth" / clip / f"{frame}.png"
        is_anomalous = anomalous[clip, frame]
        kept = mask if is_anomalous and mask.exists() else None
        yield Frame(path, root.resolve().name, "test", is_anomalous, kept)


def _campus(root: Path, masks: Path) -> Iterator[Frame]:
    for path in _images(root / "training" / "frames"):
        yield Frame(path, _scene(path), "train")
    clips = sorted(path for path in (root / "testing" / "frames").iterdir() if path.is_dir())
    for clip in track(clips, description="masks", transient=True):
        flags = np.load(root / "testing" / "test_frame_mask" / f"{clip.name}.npy")
        pixels = np.load(root / "testing" / "test_pixel_mask" / f"{clip.name}.npy", mmap_mode="r")
        for place, path in enumerate(_images(clip)):
            mask = masks / clip.name / f"{path.stem}.png" if flags[place] else None
            if mask is not None:
                image = Image.fromarray((np.asarray(pixels[place]) > 0).astype(np.uint8) * 255)
                write_local(str(mask), partial(image.save, format="png"))
            yield Frame(path, _scene(path), "test", bool(flags[place]), mask)


def _scene(path: Path) -> str:
    """Return the scene of a frame of ShanghaiTech: what is before the ``_`` of its clip."""
    return path.parent.name.partition("_")[0]


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)


def _write(draft: Path, frames: Iterable[Frame]) -> None:
    with draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for frame in frames:
            label = ANOMALOUS if frame.is_anomalous else GOOD
            uri, mask = str(frame.path.resolve()), frame.mask
            row = (uri, frame.scene, frame.split, label, str(mask.resolve()) if mask else "")
            writer.writerow(dict(zip(_COLUMNS, row, strict=True)))
