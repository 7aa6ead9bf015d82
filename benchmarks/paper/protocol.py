"""One protocol for all systems: image AUROC, pixel AUROC and PRO to 0.3, and reading of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from scipy import ndimage
from torch import Tensor

from benchmarks.paper.sets import Picture
from padim_dist.archive.reading.decode import decode, decode_mask
from padim_dist.archive.reading.transform import prepare, prepare_mask, together
from padim_dist.core.evaluation.metrics import PixelCounts, exact_curve
from padim_dist.core.geometry import InputGeometry
from padim_dist.errors import ImageError, RequestError

CROPPED = InputGeometry((256, 256), (224, 224))
"""Resize and centre crop of the paper for MVTec AD (section IV-B)."""
MAX_PIXELS = 100_000_000
BATCH = 16
_EIGHT_NEIGHBOURS = np.ones((3, 3))


@dataclass(frozen=True)
class Figures:
    """Results of a system on a set, as shares; None of what the system does not give.

    Attributes
    ----------
    image_auroc, pixel_auroc, pro : float or None
        Area under the ROC curve over images and over pixels; PRO score to 0.3.
    """

    image_auroc: float | None = None
    pixel_auroc: float | None = None
    pro: float | None = None


def read_pixels(path: Path, geometry: InputGeometry) -> Tensor:
    """Return an image as the trunk's input, uint8 (3, H, W), as the pipeline reads it.

    Raises
    ------
    RequestError
        If it cannot be read: its figures would be those of another set.
    """
    try:
        return prepare(decode(path.read_bytes(), MAX_PIXELS), geometry)
    except (ImageError, OSError) as error:
        raise RequestError(f"{path} cannot be read ({error}); repair or remove it") from error


def read_batches(
    pictures: Sequence[Picture], geometry: InputGeometry, what: str
) -> Iterator[Tensor]:
    """Yield batches of images, uint8 (N, 3, H, W), with a progress bar."""
    starts = range(0, len(pictures), BATCH)
    for start in track(starts, description=what, transient=True):
        some = pictures[start : start + BATCH]
        yield together([read_pixels(picture.path, geometry) for picture in some])


def read_regions(picture: Picture, geometry: InputGeometry) -> npt.NDArray[np.int32] | None:
    """Return the ground-truth regions of an image, int32 (H, W), numbered from 1; 0: normal.

    Regions are 8-connected, as in the pipeline. None of a defective image without a mask, which
    then counts only as an image.
    """
    if not picture.is_anomalous:
        return np.zeros(geometry.crop, np.int32)
    if picture.mask is None:
        return None
    mask = prepare_mask(decode_mask(picture.mask.read_bytes(), MAX_PIXELS), geometry)
    regions: npt.NDArray[np.int32] = ndimage.label(mask.numpy(), _EIGHT_NEIGHBOURS)[0]
    return regions.astype(np.int32)


def judge_scores(pictures: Sequence[Picture], scores: npt.ArrayLike) -> Figures:
    """Return the image AUROC of scores in the order of the pictures."""
    anomalous = np.array([picture.is_anomalous for picture in pictures])
    return Figures(_known(exact_curve(np.asarray(scores, np.float64), anomalous).auroc()))


def judge_maps(
    pictures: Sequence[Picture],
    geometry: InputGeometry,
    maps: Iterable[Tensor],
    scores: npt.ArrayLike | None = None,
) -> Figures:
    """Return the figures of anomaly maps.

    Parameters
    ----------
    pictures : sequence of Picture
        Test images.
    geometry : InputGeometry
        Geometry of the maps, for the masks.
    maps : iterable of Tensor
        Batches (N, H, W) in the order of the pictures.
    scores : array-like, optional
        Image scores; by default the maximum of each map (section III-C).
    """
    counts, highest, place = PixelCounts(), list[float](), 0
    for batch in maps:
        for one in batch:
            regions = read_regions(pictures[place], geometry)
            if regions is not None:
                counts.update(one.numpy(), regions)
            highest.append(float(one.max()))
            place += 1
    curve = counts.curve()
    image = judge_scores(pictures, highest if scores is None else scores).image_auroc
    return Figures(image, _known(curve.auroc()), _known(curve.pro()))


def mean_figures(several: Sequence[Figures]) -> Figures:
    """Return the means of figures, over those that have a value; None where none has."""

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    names = ("image_auroc", "pixel_auroc", "pro")
    return Figures(*(mean([getattr(one, name) for one in several]) for name in names))


def _known(value: float) -> float | None:
    """Return None instead of NaN: a set without masks has no figures of pixels."""
    return None if isnan(value) else value


def no_gradients() -> None:
    """Turn gradients off in this process; a training turns them on for itself."""
    torch.set_grad_enabled(False)
