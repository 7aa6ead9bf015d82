"""Feature maps of a set, computed once and kept on disk, so that tables of them are cheap."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.paper.protocol import read_batches
from benchmarks.paper.sets import ImageSet, Picture
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.trunk import Trunk, trunk_state

Maps = npt.NDArray[np.float32]
"""Feature maps of a layer, (N, H, W, C), float32: in memory or on disk."""


STAGES = {"efficientnet_b4": tuple(f"features.{stage}" for stage in range(1, 9))}
"""Layers of networks of other systems: MahalanobisAD's."""


@dataclass(frozen=True)
class Features:
    """Feature maps of the images of a set; each list has a layer per item, finest first.

    Attributes
    ----------
    train, test : list of array
        (N, H, W, C) of each layer, float32, in the order of the set's images.
    """

    train: list[Maps]
    test: list[Maps]

    def first(self, layers: int) -> Features:
        """Return the first layers alone."""
        return Features(self.train[:layers], self.test[:layers])


def layers_of(backbone: str, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the layers to keep: those of PaDiM, or all stages of a network that it does not use.

    A ResNet's ``layer4`` comes after them if the weights have it: SPADE pools it.
    """
    if backbone not in DEFAULTS:
        return STAGES[backbone]
    has_last = any(key.startswith("layer4.") for key in state)
    return (*DEFAULTS[backbone].layers, *(("layer4",) if has_last else ()))


def load_trunk(backbone: str, weights: Path, geometry: InputGeometry) -> Trunk:
    """Return a trunk with all channels of `layers_of`, as the pipeline makes it."""
    state = torch.load(weights, map_location="cpu", weights_only=True)
    layers = layers_of(backbone, state)
    spec, _ = plan_trunk(backbone, layers, None, 0, geometry.crop)
    return Trunk(spec, trunk_state(backbone, layers, state))


def weights_digest(weights: Path) -> str:
    """Return a digest of a file of weights."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def features_of(
    one: ImageSet, backbone: str, weights: Path, geometry: InputGeometry, folder: Path
) -> Features:
    """Return the feature maps of a set: those in a folder, or new ones, which are written there.

    Parameters
    ----------
    one : ImageSet
        The set.
    backbone : str
        A backbone with layers in `DEFAULTS` or `STAGES`, from fine to coarse.
    weights : Path
        State dict of the backbone.
    geometry : InputGeometry
        Resize and crop.
    folder : Path
        Where feature maps are kept, 1.4 MB an image of ResNet-18.
    """
    sizes = (*geometry.resize, *geometry.crop)
    key = (
        f"{one.name}-{one.digest}-{backbone}-{weights_digest(weights)}-{'x'.join(map(str, sizes))}"
    )
    kept = folder / key
    if not kept.exists():  # it gets its name when it is whole
        draft = kept.with_name(f".{key}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        trunk = load_trunk(backbone, weights, geometry)
        for split, pictures in (("train", one.train), ("test", one.test)):
            _write(draft, split, trunk, pictures, geometry, f"{one.name}: features, {split}")
        draft.rename(kept)
    train, test = (
        [np.load(path, mmap_mode="r") for path in sorted(kept.glob(f"{split}-*.npy"))]
        for split in ("train", "test")
    )
    return Features(train, test)


def batches(maps: Sequence[Maps], size: int = 32) -> Iterator[list[Tensor]]:
    """Yield the feature maps (N, C, H, W) of each layer, channels_last as of a trunk."""
    for start in range(0, len(maps[0]), size):
        some = [torch.from_numpy(np.array(layer[start : start + size])) for layer in maps]
        yield [layer.permute(0, 3, 1, 2) for layer in some]


def _write(
    folder: Path,
    split: str,
    trunk: Trunk,
    pictures: Sequence[Picture],
    geometry: InputGeometry,
    what: str,
) -> None:
    files: list[Maps] = []
    start = 0
    for pixels in read_batches(pictures, geometry, what):
        maps = [layer.permute(0, 2, 3, 1).numpy() for layer in trunk(pixels)]
        for layer, found in enumerate(maps):
            if start == 0:
                shape = (len(pictures), *found.shape[1:])
                path = folder / f"{split}-{layer}.npy"
                files.append(np.lib.format.open_memmap(path, "w+", np.float32, shape))
            files[layer][start : start + len(found)] = found
        start += len(pixels)
    for file in files:
        file.flush()  # type: ignore[attr-defined]
