"""Images for the measurements: MVTec AD's bottles if available, else drawn parts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from padim_dist.config import Config, make_config
from padim_dist.core.backbone import DEFAULTS
from padim_dist.core.trunk import random_state
from padim_dist.synthetic.parts import DEFECTS, GROUPS, draw_part

SHARED = Path(__file__).parents[2] / "shared"
BOTTLES = SHARED / "data" / "mvtec_bottle"
WEIGHTS = SHARED / "weights" / "resnet18_imagenet1k_v1_trunk.pth"
_DRAWN = (209, 20, 63)
"""Numbers of images as in the bottle set: normal, normal test, defective test."""


@dataclass(frozen=True)
class Pictures:
    """An archive in MVTec's layout and weights for it.

    Attributes
    ----------
    root : Path
        ``train/good``, ``test/*``, ``ground_truth/*``.
    weights : Path
        State dict of a ResNet-18.
    what : str
        For people.
    """

    root: Path
    weights: Path
    what: str

    def times(self, folder: Path, count: int) -> Pictures:
        """Return the same with each image so many times, under other names; made once."""
        if folder.exists():
            return Pictures(folder, self.weights, self.what)
        for path in sorted(self.root.rglob("*")):
            inside = path.relative_to(self.root)
            if path.is_dir() or inside.parts[0] not in ("train", "test", "ground_truth"):
                continue
            for number in range(count):
                copy = folder / inside.parent / f"{number:03d}-{inside.name}"
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, copy)
                except OSError:  # another disk
                    shutil.copy(path, copy)
        return Pictures(folder, self.weights, self.what)

    def config(
        self, workspace: Path | str, address: str | None = None, **changes: dict[str, Any]
    ) -> Config:
        """Return a configuration: two workers of one thread, or those of an existing scheduler."""
        cluster = {"kind": "address", "address": address} if address else {"workers": 2}
        tree: dict[str, dict[str, Any]] = {
            "archive": {"url": str(self.root), "layout": "mvtec"},
            "model": {"weights": str(self.weights), "crop": 224},  # as in RESULTS.md
            "cluster": cluster,
        }
        for section, values in changes.items():
            tree[section] = {**tree.get(section, {}), **values}
        return make_config({"workspace": str(workspace), **tree})


def find_pictures(folder: Path) -> Pictures:
    """Return the bottles, or parts drawn into a folder; with ImageNet or random weights."""
    weights, known = WEIGHTS, "ImageNet weights"
    if not weights.exists():
        weights, known = folder / "random.pth", "random weights"
        torch.save(random_state("resnet18", DEFAULTS["resnet18"].layers, 1024), weights)
    if BOTTLES.exists():
        return Pictures(BOTTLES, weights, f"MVTec AD bottles, 512 px JPEG, {known}")
    return Pictures(_draw(folder / "drawn"), weights, f"drawn parts, 320 px JPEG, {known}")


def _draw(root: Path) -> Path:
    normal, good, defects = _DRAWN
    wanted = [("train", "good", None)] * normal + [("test", "good", None)] * good
    wanted += [
        ("test", DEFECTS[i % len(DEFECTS)], DEFECTS[i % len(DEFECTS)]) for i in range(defects)
    ]
    for number, (split, label, defect) in enumerate(wanted):
        picture, mask = draw_part(GROUPS[0], defect, np.random.default_rng([7, number]))
        place = root / split / label / f"{number:03d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place, quality=92)
        if defect:
            place = root / "ground_truth" / label / f"{number:03d}_mask.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            mask.save(place)
    return root
