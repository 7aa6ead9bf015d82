"""Measure the whole step on a device, from JPEG in memory to scores, and the trunk by itself.

    PYTHONPATH=. python benchmarks/gpu.py [--models R18-100 WR50-550] [--batches 64 128 256 512]
        [--precisions float32 tf32 bfloat16 float16] [--decode 512] [--seconds 2] [--json out.json]

Needs only torch, torchvision and `padim_dist.core`: no Dask, no storage. Uses the accelerator
if there is one, else the processor. First it fits on drawn images and compares the distances
with dense ones in float64. Then it prints, for each model, precision and batch size, images a
second of

- trunk: from uint8 pixels on the device to feature maps;
- step: to scores and anomaly maps, with nested order, distances, up-sampling and smoothing;
- update: to the moments of a fit;
- jpeg: as step, but from JPEG bytes in memory, decoded by nvJPEG if torchvision has it, else
  by threads, and resized on the device;

and the peak memory of the device.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.choices import Precision
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import Gaussian, factorise
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.resampling import resize_and_crop
from padim_dist.core.trunk import PRECISIONS, Trunk, random_state

MODELS = {"R18-100": ("resnet18", 100), "WR50-550": ("wide_resnet50_2", 550)}
GEOMETRY = InputGeometry((256, 256), (224, 224))
CROP = GEOMETRY.crop[0]
EPSILON, SIGMA, FITTED = 0.01, 4.0, 64


class Step:
    """A fitted model on a device.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    precision : str
        One of `PRECISIONS`.
    device : torch.device
        Where.
    """

    def __init__(self, model: str, precision: Precision, device: torch.device) -> None:
        backbone, channels = MODELS[model]
        layers = DEFAULTS[backbone].layers
        spec, self.shape = plan_trunk(backbone, layers, channels, 1024, (CROP, CROP))
        self.trunk = Trunk(spec, random_state(backbone, layers, 1024), precision).to(device)
        self.moments = Moments.zeros(self.shape, device)
        self.anomaly_map = AnomalyMap.build(self.shape.grids[0], (CROP, CROP), SIGMA, device)
        self.gaussian: Gaussian | None = None

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Return the feature maps."""
        found: list[Tensor] = self.trunk(pixels)
        return found

    def update(self, pixels: Tensor) -> None:
        """Add a batch to the moments."""
        self.moments.update(self.shape.nest(self.maps(pixels)))

    def fit(self, pixels: Tensor, batch: int) -> None:
        """Factorise the moments."""
        for start in range(0, len(pixels), batch):
            self.update(pixels[start : start + batch])
        self.gaussian = factorise(self.moments, Covariance.of(self.moments, EPSILON))

    def score(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image scores and the positions of their peaks."""
        assert self.gaussian is not None
        distances = self.gaussian.distances(self.shape.nest(self.maps(pixels)))
        return find_peaks(self.anomaly_map.full(self.shape.unnest(distances)))


def draw(images: int, size: int, device: torch.device, seed: int = 0) -> Tensor:
    """Draw images of one scene with noise: uint8 (N, 3, size, size), channels last."""
    generator = torch.Generator(device).manual_seed(seed)
    scene_of = torch.Generator(device).manual_seed(1)
    blocks = torch.randint(20, 200, (1, 3, 8, 8), generator=scene_of, device=device)
    scene = torch.nn.functional.interpolate(blocks.float(), size=size, mode="bicubic")
    found = torch.empty(images, size, size, 3, dtype=torch.uint8, device=device)
    for start in range(0, images, 64):
        part = found[start : start + 64]
        noise = torch.randn(len(part), 3, size, size, generator=generator, device=device) * 12
        part.copy_((scene + noise).clamp(0, 255).permute(0, 2, 3, 1))
    return found.permute(0, 3, 1, 2)


def apart(step: Step, new: Tensor) -> float:
    """Return the largest relative difference of the distances from dense ones in float64.

    The dense ones are computed from the same moments, at a sample of patches.
    """
    assert step.gaussian is not None
    shape, moments = step.shape, step.moments
    levels = shape.nest(step.maps(new))
    found = shape.unnest(step.gaussian.distances(levels)).double()
    worst = 0.0
    height, width = shape.grids[0]
    for y, x in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        difference, covariance = _dense(shape, moments, levels, y, x)
        solved = torch.linalg.solve(covariance, difference)
        wanted = (difference * solved).sum(dim=0).sqrt()
        worst = max(worst, float(((found[:, y, x] - wanted).abs() / wanted).max()))
    return worst


def _dense(
    shape: PyramidShape, moments: Moments, levels: list[Tensor], y: int, x: int
) -> tuple[Tensor, Tensor]:
    """Return the residuals (d, N) and the covariance (d, d) of a patch; float64."""
    at = [shape.index(a, y, x) for a in range(shape.levels)]
    difference = torch.cat(
        [levels[a][i].double() - moments.mean[a][i, :, None] for a, i in enumerate(at)]
    )
    rows = []
    for a in range(shape.levels):
        row = []
        for b in range(shape.levels):
            fine, coarse = min(a, b), max(a, b)
            place = at[fine] - at[coarse] * shape.ratio(fine, coarse)
            d = shape.channels[fine]
            block = moments.scatter[fine, coarse][at[coarse]][place * d : (place + 1) * d]
            row.append(block if a <= b else block.T)
        rows.append(torch.cat(row, dim=1))
    covariance = torch.cat(rows) / (moments.count - 1)
    covariance.diagonal().add_(EPSILON)
    return difference, covariance


def decoder(device: torch.device, threads: int) -> tuple[str, Callable[[list[Tensor]], Tensor]]:
    """Return the name of a decoder, and it: JPEG bytes to pixels (N, 3, CROP, CROP)."""

    def by_device(files: list[Tensor]) -> Tensor:
        if device.type == "cuda":  # the decoder's own stream does not wait for ours
            torch.cuda.current_stream(device).synchronize()
        found: Any = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
        return resize_and_crop(torch.stack(found), GEOMETRY)

    if device.type == "cuda":
        try:
            by_device([encode_jpeg(torch.zeros(3, 512, 512, dtype=torch.uint8))])
            return "nvJPEG", by_device
        except RuntimeError:
            pass
    pool = ThreadPoolExecutor(threads)

    def by_threads(files: list[Tensor]) -> Tensor:
        pictures = pool.map(lambda file: decode_jpeg(file, mode=ImageReadMode.RGB), files)
        whole = torch.stack([picture.to(device, non_blocking=True) for picture in pictures])
        return resize_and_crop(whole, GEOMETRY)

    return f"{threads} threads", by_threads


def rate(work: Callable[[], Any], images: int, seconds: float, device: torch.device) -> float:
    """Return images a second of work on a batch, over some seconds, after three warm-up calls."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        work()
    wait()
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        work()
        done += images
        wait()
    return done / (time.perf_counter() - began)


def measure(asked: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Print a line for each model, precision and batch size."""
    pixels = draw(max(FITTED, *asked.batches), CROP, device)
    pictures = draw(max(asked.batches), asked.decode, torch.device("cpu"), seed=2)
    files = [encode_jpeg(picture, quality=90) for picture in pictures]
    how, decode = decoder(device, asked.threads)
    for model in asked.models:
        for precision in asked.precisions:
            step = Step(model, precision, device)
            step.fit(pixels[:FITTED], min(64, *asked.batches))
            error = apart(step, draw(8, CROP, device, seed=3))
            for batch in asked.batches:
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                some, bytes_ = pixels[:batch], files[:batch]
                works: dict[str, Callable[[], Any]] = {
                    "trunk": lambda: step.maps(some),  # noqa: B023
                    "step": lambda: step.score(some),  # noqa: B023
                    "update": lambda: step.update(some),  # noqa: B023
                    "jpeg": lambda: step.score(decode(bytes_)),  # noqa: B023
                }
                found = {
                    name: round(rate(work, batch, asked.seconds, device), 1)
                    for name, work in works.items()
                }
                memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
                yield {
                    "model": model,
                    "precision": precision,
                    "batch": batch,
                    **found,
                    "share": round(found["step"] / found["trunk"], 3),
                    "apart": error,
                    "decoder": how,
                    "memory": memory,
                }


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 128, 256, 512])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--decode", type=int, default=512, help="side of the JPEG images")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", help="file for the figures")
    asked = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "the processor"
    print(f"{card}, torch {torch.__version__}, torchvision {torchvision.__version__}")
    print(
        f"{'model':<9} {'precision':<9} {'batch':>5} {'trunk':>9} {'step':>9} {'share':>6} "
        f"{'update':>9} {'jpeg':>9}  images/s; {'MiB':>7} {'apart':>8}"
    )
    lines = []
    for line in measure(asked, device):
        lines.append(line)
        print(
            "{model:<9} {precision:<9} {batch:>5} {trunk:>9,.0f} {step:>9,.0f} {share:>6.3f} "
            "{update:>9,.0f} {jpeg:>9,.0f} {mib:>17,.0f} {apart:>8.1e}".format(
                mib=line["memory"] / 2**20, **line
            ),
            flush=True,
        )
    if lines:
        print(f"jpeg: {asked.decode} px, decoded by {lines[0]['decoder']}")
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump({"device": card, "torch": torch.__version__, "lines": lines}, file, indent=1)


if __name__ == "__main__":
    main()
