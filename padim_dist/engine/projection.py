"""What a fit or a score will need, from the configuration alone: pure functions.

The figures err on the high side; a test holds them to what really happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from padim_dist.archive.reading.ahead import BUDGET
from padim_dist.archive.reading.requests import MOST_MEMBERS
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import PRECISIONS
from padim_dist.errors import ResourceError

_GIB = 2**30
_SHARE_OF_HALF = 0.6
"""Of the activations, where the trunk takes half as many bytes a number."""
# A worker with torch, torchvision, Dask and Zarr imported, before any model.
_BASE = 900 * 2**20
# Bytes of trunk activations alive at once for each input pixel (ResNets at stride 2 and 4).
_ACTIVATION_BYTES = 320
# Bytes for each pixel of an image while it is decoded and resized: Pillow with PNG takes 15.
_DECODING_BYTES = 16
_FILE_BYTES = 0.5
"""Of a JPEG file that waits for a GPU with its batch, a pixel."""
USABLE_SHARE = 0.8
"""Dask pauses a worker that takes more of its limit than this."""


@dataclass(frozen=True)
class Need:
    """Bytes of memory that a worker needs at its peak, by what they are for."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in self.parts.items())
        return f"{self.total / _GIB:.2f} GiB ({parts})"


def fit_need(spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int, sample: int) -> Need:
    """Peak of a worker that embeds a part: moments in float64, one product in float32."""
    shape = spec.shape
    largest = max(prod(shape.block_shape(*pair)) for pair in shape.pairs)
    return Need(
        {
            **_common(spec, weights, readers, max_pixels),
            "moments": 8 * shape.numbers,
            "largest block in work": (4 + 8) * largest,
            # Whole, and a level of it once more while it is written.
            "sample": 2 * 4 * sample * sum(spec.shape.sizes),
        }
    )


def score_need(spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int) -> Need:
    """Peak of a worker that scores a shard: the Gaussian and a batch's maps."""
    crop = prod(spec.geometry.crop)
    return Need(
        {
            **_common(spec, weights, readers, max_pixels),
            "gaussian": 4 * spec.shape.numbers,
            "anomaly maps": 2 * 4 * spec.batch * crop,
        }
    )


def _common(spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int) -> dict[str, int]:
    crop = prod(spec.geometry.crop)
    embedding = sum(spec.shape.sizes)
    ahead = 3 * spec.batch + MOST_MEMBERS
    share = 1.0 if PRECISIONS[spec.precision].itemsize == 4 else _SHARE_OF_HALF
    activations = spec.batch * crop * _ACTIVATION_BYTES * share
    waiting = _FILE_BYTES * spec.batch * max_pixels if spec.jpeg == "nvjpeg" else 0
    return {
        "libraries": _BASE,
        "trunk": 2 * weights,
        "activations": int(activations),
        "embeddings": 4 * 4 * spec.batch * embedding,
        # Raw bytes count twice: a body that has just come is there whole and in pieces.
        "images": 2 * BUDGET
        + readers * _DECODING_BYTES * max_pixels
        + ahead * 3 * crop
        + int(waiting),
    }


def fit_disk(spec: EmbeddingSpec, parts: Sequence[int], groups: int, sample: int) -> int:
    """Bytes that a fit writes: moments and samples of every part, and a model of every group.

    `parts` has the images of each part. A sixteenth of the samples' pixels is there while they
    are left out.
    """
    samples = sum(min(images, sample) for images in parts)
    left_out = samples * prod(spec.geometry.crop) // 4
    moments = spec.shape.numbers * (8 * len(parts) + (8 + 4) * groups)
    return moments + 4 * samples * sum(spec.shape.sizes) + left_out


def score_disk(spec: EmbeddingSpec, images: int, heatmaps: bool) -> int:
    """Bytes that a score writes: heatmaps in float16 and about 300 bytes a row."""
    return images * (300 + (2 * prod(spec.shape.grids[0]) if heatmaps else 0))


def check_memory(what: str, need: Need, allowed: int, workers: int) -> None:
    """Refuse what does not fit in a worker.

    Raises
    ------
    ResourceError
        With what is needed, what is allowed, and what to change.
    """
    usable = int(allowed * USABLE_SHARE)
    if allowed and need.total > usable:
        fitting = int(usable * workers / need.total)
        advice = f"set cluster.workers to {fitting} and" if fitting else "use a larger machine, or"
        raise ResourceError(
            f"{what} needs {need} in a worker, but each of {workers} workers may use "
            f"{usable / _GIB:.2f} GiB (80 % of its limit); {advice} lower model.channels, "
            "model.batch or archive.max_pixels"
        )


def check_disk(what: str, need: int, free: int | None, where: str) -> None:
    """Refuse what does not fit on the workspace's disk (free is None where it is not known).

    Raises
    ------
    ResourceError
        With what is needed, what is free, and what to change.
    """
    if free is not None and need > free:
        raise ResourceError(
            f"{what} writes up to {need / _GIB:.2f} GiB to {where}, but {free / _GIB:.2f} GiB are "
            "free; free some, move the workspace, or lower fit.parts, fit.sample or model.channels"
        )
