"""Memory and disk that a fit or a score needs: pure functions of the configuration.

The estimates are upper bounds; a test compares them with measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from padim_dist.archive.reading.ahead import BUDGET
from padim_dist.archive.reading.requests import MOST_MEMBERS
from padim_dist.core.embedding import TOGETHER
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.engine.memory.amounts import IN_NOISE, added_together, left_out_together
from padim_dist.engine.parts import has_moments
from padim_dist.errors import ResourceError
from padim_dist.store.parts.sample import WRITTEN_TOGETHER, images_on_disk

_GIB = 2**30
_SHARES = {"bfloat16": 0.6, "float16": 0.6, "int8": 0.6}
"""Activation memory in smaller types, as a share of that in float32."""
# A worker with torch, torchvision, Dask and Zarr imported, before any model.
_BASE = 900 * 2**20
# Bytes per pixel: trunk activations alive at once (ResNets at stride 2 and 4); an image that is
# decoded and resized (Pillow with PNG takes 15); a JPEG file that waits for the GPU.
_ACTIVATION_BYTES, _DECODING_BYTES, _FILE_BYTES = 320, 16, 0.5
USABLE_SHARE = 0.8
"""Share of its memory limit above which Dask pauses a worker."""


@dataclass(frozen=True)
class Need:
    """Peak memory of a worker in bytes, by purpose."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Sum over all purposes."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in self.parts.items())
        return f"{self.total / _GIB:.2f} GiB ({parts})"


def fit_need(spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int, sample: int) -> Need:
    """Return the peak of a worker: that of the stage of a fit that needs the most.

    `sample` is the most images of a part whose embeddings are kept.
    """
    stages = [_embed_need(spec, weights, readers, max_pixels, sample)]
    if sample:
        stages.append(_calibrate_need(spec, sample))
    return max(stages, key=lambda need: need.total)


def _embed_need(
    spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int, sample: int
) -> Need:
    """Return the peak of a worker that embeds a part: moments in float64, products in float32."""
    shape = spec.shape
    largest = max(prod(shape.block_shape(*pair)) for pair in shape.pairs)
    return Need(
        {
            **_common(spec, weights, readers, max_pixels),
            "moments": 8 * shape.numbers,
            "largest block in work": (4 + 8) * largest,
            # Images that wait, and three copies of them while they are written to objects.
            "sample": 4 * 4 * min(sample, WRITTEN_TOGETHER) * sum(shape.sizes),
        }
    )


def _calibrate_need(spec: EmbeddingSpec, sample: int) -> Need:
    """Return the peak of a worker that leaves out the sample of a part, and calibrates a group.

    Images that are left out together are there as they are read, in nested order, whitened, and as
    maps. Those of the noise are there by part and joined.
    """
    together, numbers = min(left_out_together(spec), sample), sum(spec.shape.sizes)
    crop = prod(spec.geometry.crop)
    return Need(
        {
            "libraries": _BASE,
            "gaussian": 4 * spec.shape.numbers,
            "images left out": 4 * together * (4 * numbers + 3 * crop),
            "noise": 3 * 4 * IN_NOISE * numbers,
            "pixels": 2 * 4 * sample * crop // 16,
        }
    )


def score_need(
    spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int, shard: int
) -> Need:
    """Return the peak of a worker that scores a shard: the Gaussian and a batch's maps.

    `shard` is the most images of a shard; its heatmaps are written together.
    """
    maps = 2 * 4 * spec.batch * prod(spec.geometry.crop)
    heatmaps = (4 + 2 + 2) * shard * prod(spec.shape.grids[0])
    common = _common(spec, weights, readers, max_pixels)
    return Need(
        {**common, "gaussian": 4 * spec.shape.numbers, "anomaly maps": maps, "heatmaps": heatmaps}
    )


def _common(spec: EmbeddingSpec, weights: int, readers: int, max_pixels: int) -> dict[str, int]:
    crop = prod(spec.geometry.crop)
    ahead = 3 * spec.batch + MOST_MEMBERS
    activations = (
        min(spec.batch, TOGETHER) * crop * _ACTIVATION_BYTES * _SHARES.get(spec.precision, 1.0)
    )
    waiting = _FILE_BYTES * spec.batch * max_pixels if spec.jpeg == "nvjpeg" else 0
    decoding = readers * _DECODING_BYTES * max_pixels
    return {
        "libraries": _BASE,
        "trunk": 2 * weights,
        "activations": int(activations),
        "embeddings": 4 * 4 * added_together(spec) * sum(spec.shape.sizes),
        # Raw bytes count twice: a new response is held in pieces and joined.
        "images": 2 * BUDGET + decoding + ahead * 3 * crop + int(waiting),
    }


def fit_disk(
    spec: EmbeddingSpec, parts: Sequence[int], taken_out: int, groups: int, sample: int
) -> int:
    """Return the bytes that a fit writes: moments and samples by part, models by group.

    `parts` has the images of each part; `taken_out` is the number of pieces whose moments are
    subtracted. Leave-one-out results take a sixteenth of the samples' pixels, for a time.
    """
    sampled = [min(images, sample) for images in parts]
    left_out = sum(sampled) * prod(spec.geometry.crop) // 4
    kept = sum(has_moments(spec.shape, *each) for each in zip(parts, sampled, strict=True))
    moments = spec.shape.numbers * (8 * (kept + taken_out) + (8 + 4) * groups)
    samples = 4 * sum(map(images_on_disk, sampled)) * sum(spec.shape.sizes)
    return moments + samples + left_out


def score_disk(spec: EmbeddingSpec, images: int, heatmaps: bool) -> int:
    """Return the bytes that a score writes: heatmaps in float16 and about 300 bytes a row."""
    return images * (300 + (2 * prod(spec.shape.grids[0]) if heatmaps else 0))


def check_memory(what: str, need: Need, allowed: int, workers: int) -> None:
    """Refuse a stage that does not fit in the memory of a worker.

    Raises
    ------
    ResourceError
        If it does not fit.
    """
    usable = int(allowed * USABLE_SHARE)
    if allowed and need.total > usable:
        fitting = int(usable * workers / need.total)
        advice = f"set cluster.workers to {fitting}" if fitting else "use a larger machine"
        raise ResourceError(
            f"{what} needs {need} in a worker, which may use {usable / _GIB:.2f} GiB (80 % of its "
            f"limit) with {workers} worker{'s' * (workers != 1)}; {advice}, or lower "
            "model.resize, model.channels, model.batch, fit.sample or archive.max_pixels"
        )


def check_disk(what: str, need: int, free: int | None, where: str) -> None:
    """Refuse a stage that does not fit on the workspace's disk (`free` is None if not known).

    Raises
    ------
    ResourceError
        If it does not fit.
    """
    if free is not None and need > free:
        raise ResourceError(
            f"{what} writes up to {need / _GIB:.2f} GiB to {where}, but {free / _GIB:.2f} GiB are "
            "free; free some, move the workspace, or lower fit.parts, fit.sample or model.channels"
        )
