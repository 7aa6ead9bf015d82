"""Synthetic archive on disk in the layout of MVTec AD."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from padim_dist.events import Listener, Progress, ignore
from padim_dist.synthetic.parts import DEFECTS, GROUPS, draw_part


def make_archive(
    folder: Path,
    normal: int = 60,
    good: int = 15,
    defects: int = 5,
    seed: int = 7,
    moving: Collection[str] = (),
    listener: Listener = ignore,
) -> None:
    """Draw an archive of two groups, with a few broken files.

    Parameters
    ----------
    folder : Path
        Folder of the archive; created if it does not exist.
    normal, good, defects : int
        Images per group: normal for the fit, normal for the test, and of each defect.
    seed : int
        The same seed makes the same archive.
    moving : collection of str, optional
        Groups whose parts lie turned and shifted.
    listener : callable, optional
        Receives the progress.
    """
    wanted = [("train", "good", normal), ("test", "good", good)]
    wanted += [("test", defect, defects) for defect in DEFECTS]
    drawings = [
        _Drawing(folder / group, group, split, label, i, (seed, g, k, i), group in moving)
        for g, group in enumerate(GROUPS)
        for k, (split, label, count) in enumerate(wanted)
        for i in range(count)
    ]
    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(_Drawing.save, drawings), 1):
            listener(Progress("draw", len(drawings), done))
    _break_files(folder / GROUPS[0])


@dataclass(frozen=True)
class _Drawing:
    """A picture to draw."""

    folder: Path
    group: str
    split: str
    label: str
    number: int
    seed: tuple[int, ...]
    moves: bool

    def save(self) -> None:
        """Draw it; write it, and its mask if it has a defect."""
        defect = None if self.label == "good" else self.label
        picture, mask = draw_part(self.group, defect, np.random.default_rng(self.seed), self.moves)
        images = self.folder / self.split / self.label
        images.mkdir(parents=True, exist_ok=True)
        picture.save(images / f"{self.number:03d}.jpg", quality=92)
        if defect:
            masks = self.folder / "ground_truth" / defect
            masks.mkdir(parents=True, exist_ok=True)
            mask.save(masks / f"{self.number:03d}_mask.png")


def _break_files(group: Path) -> None:
    """Write files that cannot be used: each becomes a row with its reason."""
    sound = (group / "train" / "good" / "000.jpg").read_bytes()
    bad = group / "test" / "good"
    (bad / "cut_short.jpg").write_bytes(sound[: len(sound) // 3])
    (bad / "empty.png").write_bytes(b"")
    (bad / "web_page.jpg").write_bytes(b"<!doctype html><title>404 Not Found</title>")
    (bad / "bomb.png").write_bytes(_png_of_claimed_size(30_000, 30_000))
    (group / "train" / "good" / "cut_short.jpg").write_bytes(sound[: len(sound) // 2])
    (group / "notes.txt").write_text("not an image: ignored\n")


def _png_of_claimed_size(width: int, height: int) -> bytes:
    """Return a small PNG that claims to be gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * width))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)
