"""Measure what stands around the trunk: small images, and a trunk that costs nothing.

    python -m benchmarks.stub [--images 4096] [--pixels 64] [--rounds 3] [--workers 1]

draws a few JPEG files, links them under many names, and prints images a second of a fit and of a
score by warm workers of one thread, and the processor time that workers and driver take for an
image (which depends less on other load).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import torch
from torch import Tensor, nn

import padim_dist as padim
from benchmarks.growing import DRAWN, arrive, draw
from benchmarks.measure import Row, figure
from padim_dist.config import Config, make_config
from padim_dist.engine.cluster.local import open_local

CROP = 32
STRIDES = (4, 2, 2)
CHANNELS = 16


class Nothing(nn.Module):
    """Three small convolutions without overlap: maps of 8x8, 4x4 and 2x2 of 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, CHANNELS, CHANNELS)
        self.fine, self.middle, self.coarse = (
            nn.Conv2d(c, CHANNELS, stride, stride)
            for c, stride in zip(inputs, STRIDES, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the coarsest map."""
        found: Tensor = self.coarse(self.middle(self.fine(x)))
        return found


def nothing(height: int, width: int) -> nn.Module:  # noqa: ARG001
    """Return the network: `model.backbone: benchmarks.stub:nothing`."""
    return Nothing()


def settings(root: Path, place: Path, address: str | None = None, workers: int = 1) -> Config:
    """Return the configuration of an archive with the folder ``good`` of normal images."""
    weights = place / "nothing.pth"
    if not weights.exists():
        torch.manual_seed(0)
        torch.save(Nothing().state_dict(), weights)
    cluster = {"kind": "address", "address": address} if address else {"workers": workers}
    return make_config(
        {
            "workspace": str(place / f"{root.name}-audit"),
            "archive": {"url": str(root), "train": "^good/"},
            "model": {
                "backbone": "benchmarks.stub:nothing",
                "weights": str(weights),
                "layers": ["fine", "middle", "coarse"],
                "channels": None,
                "resize": CROP,
                "crop": CROP,
            },
            "score": {"splits": ["test"]},
            "cluster": cluster,
        }
    )


def processor_seconds() -> float:
    """Return the processor seconds of this process and of its living children."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def measured(work: Callable[[], int]) -> tuple[float, float]:
    """Return images a second, and milliseconds of processor time an image, of a work."""
    used, began = processor_seconds(), time.perf_counter()
    images = work()
    seconds, used = time.perf_counter() - began, processor_seconds() - used
    return images / seconds, 1000 * used / images


def archive(place: Path, images: int, pixels: int) -> Path:
    """Make an archive: as many images to score as to fit."""
    place.mkdir(exist_ok=True)
    root, drawn = place / f"stub-{images}", draw(place / "drawn", pixels)
    arrive(root / "good", drawn, 0, images)
    arrive(root, drawn, 0, images)
    return root


def rates(
    place: Path, rounds: int, images: int = 4096, pixels: int = 64, workers: int = 1
) -> dict[str, list[tuple[float, float]]]:
    """Return images a second and processor milliseconds an image of fits and scores."""
    root = archive(place, images, pixels)
    found: dict[str, list[tuple[float, float]]] = {"fit": [], "score": []}
    with open_local(settings(root, place, workers=workers).cluster, workers, None) as client:
        config = settings(root, place, client.scheduler.address)
        for _ in range(rounds + 1):  # the first warms up
            shutil.rmtree(config.workspace, ignore_errors=True)
            padim.index(config)
            found["fit"].append(measured(lambda: padim.fit(config).images))
            found["score"].append(measured(lambda: padim.score(config).images))
    return {name: runs[1:] for name, runs in found.items()}


def measure(place: Path, rounds: int) -> list[Row]:
    """Return the rows of the section."""
    rows = []
    for name, runs in rates(place, rounds).items():
        what = f"{name}, 64 px JPEG, a trunk that costs nothing, one worker"
        speeds, times = ([*values] for values in zip(*runs, strict=True))
        rows.append(figure("stub", what, speeds, "images/s"))
        rows.append(figure("stub", f"{what}, processor time an image", times, "ms"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=4096, help=f"at least {DRAWN}")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = rates(Path(folder), asked.rounds, asked.images, asked.pixels, asked.workers)
    for name, runs in found.items():
        speeds, times = zip(*runs, strict=True)
        print(
            f"{name:>6}: {median(speeds):7.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f}), "
            f"{median(times):.2f} ms of processor time an image ({min(times):.2f} to "
            f"{max(times):.2f})"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
