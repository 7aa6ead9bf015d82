"""Rd-MVTec: a set whose images are rotated and cropped at random (section IV-A, Table VI).

Images are resized to 256 x 256, rotated by up to 10 degrees, and a random part of 224 x 224 is cut
out, for training and for test images. They are written as files, so that every system, the pipeline
among them, reads the same ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from benchmarks.paper.protocol import MAX_PIXELS, read_pixels
from benchmarks.paper.sets import ImageSet, Picture, read_set
from padim_dist.archive.reading.decode import decode_mask
from padim_dist.archive.reading.transform import prepare_mask
from padim_dist.core.geometry import InputGeometry
from padim_dist.local_files import write_local

WHOLE = InputGeometry((256, 256), (256, 256))
SIDE = 224
CUT = InputGeometry((SIDE, SIDE), (SIDE, SIDE))
"""Geometry of the written images: they are used as they are."""
DEGREES = 10.0
SEEDS = (0, 1, 2, 3, 4)


def write_turned(one: ImageSet, seed: int, folder: Path) -> ImageSet:
    """Write a set's images rotated and cropped, and return them as a set of the same name.

    What is written whole already is read only. Corners that a rotation uncovers are black.

    Parameters
    ----------
    one : ImageSet
        The set.
    seed : int
        Seed of angles and places.
    folder : Path
        Where to write it; another seed needs another folder.
    """
    target = folder / one.name
    if not target.exists():
        draft = target.with_name(f".{one.name}")
        shutil.rmtree(draft, ignore_errors=True)
        random = np.random.default_rng(seed)
        pictures = (*one.train, *one.test)
        for picture in track(pictures, description=f"{one.name}: turned {seed}", transient=True):
            _write(picture, one.root, draft, random)
        draft.rename(target)
    return read_set(target)


def turn(pixels: Tensor, angle: float, top: int, left: int, *, is_mask: bool = False) -> Tensor:
    """Rotate an image (C, 256, 256) about its centre and cut 224 x 224 out of it."""
    how = InterpolationMode.NEAREST if is_mask else InterpolationMode.BILINEAR
    turned: Tensor = rotate(pixels, angle, interpolation=how)
    return turned[..., top : top + SIDE, left : left + SIDE]


def _write(picture: Picture, root: Path, target: Path, random: np.random.Generator) -> None:
    angle = float(random.uniform(-DEGREES, DEGREES))
    top, left = (int(place) for place in random.integers(0, WHOLE.crop[0] - SIDE + 1, 2))
    inside = picture.path.relative_to(root).with_suffix(".png")
    pixels = turn(read_pixels(picture.path, WHOLE), angle, top, left)
    _save(pixels.permute(1, 2, 0), target / inside)
    if picture.mask is not None:
        mask = prepare_mask(decode_mask(picture.mask.read_bytes(), MAX_PIXELS), WHOLE)
        turned = turn(mask.to(torch.uint8)[None] * 255, angle, top, left, is_mask=True)
        place = Path("ground_truth") / picture.label / f"{inside.stem}_mask.png"
        _save(turned[0], target / place)


def _save(pixels: Tensor, path: Path) -> None:
    image = Image.fromarray(pixels.contiguous().numpy())
    write_local(str(path), lambda draft: image.save(draft, format="png", compress_level=1))
