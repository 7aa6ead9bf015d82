"""Measure a night with one percent new images, and the memory of a worker.

    python -m benchmarks.growing [--images 100000] [--small 500] [--pixels 64]
    python -m benchmarks.growing --pixels 512 --crop 224 --share 0.03

draws a few small images and links them under many names (64 pixels and random weights, so
that the engine counts more than the trunk), fits on 200 of them, and scores, each time with
two new workers: an archive of `--small` images, one of `--images`, and, after one percent
new images were added to it, an index and a score of the new ones. Prints seconds, processor
seconds of all processes (which depend less on other load), shares, and the peak resident
memory of any worker process.

With `--share` only this share of the full night is done, and a night of one percent on the whole
archive. A full night of 100,000 images of 512 pixels takes too long to measure.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import padim_dist as padim
from benchmarks.measure import peak_memory
from padim_dist.config import Config, make_config
from padim_dist.events import Event

DRAWN = 200
A_FOLDER = 1000


def draw(folder: Path, pixels: int = 64) -> list[Path]:
    """Draw a few square images of noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(DRAWN)]
    for path in paths:
        noise = random.integers(0, 255, (pixels, pixels, 3), np.uint8)
        Image.fromarray(noise).save(path, quality=80)
    return paths


def arrive(root: Path, drawn: list[Path], start: int, stop: int) -> None:
    """Link images into the archive under new names."""
    for number in range(start, stop):
        path = root / f"{number // A_FOLDER}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(drawn[number % len(drawn)], path)


def settings(root: Path, workspace: Path, pixels: int) -> Config:
    """Return a configuration with small crops, few channels and two workers."""
    return make_config(
        {
            "workspace": str(workspace),
            "archive": {"url": str(root), "train": "^good/"},
            "model": {"weights": "random", "resize": pixels, "crop": pixels, "channels": 40},
            "score": {"splits": ["test"]},
            "cluster": {"workers": 2},
        }
    )


class Memory:
    """A listener that records the peak memory of the worker processes."""

    def __init__(self) -> None:
        self.peak = 0

    def __call__(self, _: Event) -> None:
        """Update the peak."""
        for process in psutil.Process().children(recursive=True):
            self.peak = max(self.peak, peak_memory(process.pid))


def processor_seconds() -> float:
    """Return processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def night(config: Config) -> float:
    """Index, and score what came as an audit does: return processor seconds."""
    used = processor_seconds()
    padim.index(config)
    increment = padim.history(config).entries[-1].increment
    padim.score(config, snapshot=increment)
    return processor_seconds() - used


def share_of_a_full_night(asked: argparse.Namespace, place: Path, drawn: list[Path]) -> None:
    """Print the processor seconds of a night of 1 % as a share of those of a full one.

    Both nights have the start of the workers, the index and images to score. A night of a share of
    the images gives the seconds of an image; with these the full one is computed.
    """
    configs, roots = {}, {}
    some, new = int(asked.share * asked.images), asked.images // 100
    for name, count in (("part", some), ("whole", asked.images)):
        roots[name] = place / name
        arrive(roots[name] / "good", drawn, 0, DRAWN)
        arrive(roots[name], drawn, 0, count)
        configs[name] = settings(roots[name], place / f"{name}-audit", asked.crop or asked.pixels)
        padim.fit(configs[name])
    part = night(configs["part"])
    padim.index(configs["whole"])
    arrive(roots["whole"], drawn, asked.images, asked.images + new)
    one = night(configs["whole"])
    an_image = (part - one) / (some - new)
    full = one + an_image * (asked.images - new)
    print(f"{new:,} new images of {asked.images:,}: {one:.1f} processor seconds")
    print(f"{some:,} images: {part:.1f}, so an image takes {an_image * 1000:.1f} ms")
    print(f"all images: {full:,.0f}, computed; 1 % takes {one / full:.1%} of it")


def audit(config: Config) -> tuple[float, float, float, int, int]:
    """Index, score what is new: seconds of each, processor seconds, images, peak of a worker."""
    memory = Memory()
    used = processor_seconds()
    started = time.monotonic()
    padim.index(config)
    indexed = time.monotonic()
    images = padim.score(config, memory, new=True).images
    ended = time.monotonic()
    used = processor_seconds() - used
    return indexed - started, ended - indexed, used, images, memory.peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=500)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--share", type=float)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        drawn = draw(place / "drawn", asked.pixels)
        if asked.share:
            share_of_a_full_night(asked, place, drawn)
            return
        nights = []
        for name, count in (("small", asked.small), ("large", asked.images)):
            root = place / name
            arrive(root / "good", drawn, 0, DRAWN)
            arrive(root, drawn, 0, count)
            config = settings(root, place / f"{name}-audit", asked.pixels)
            padim.fit(config)
            nights.append((f"all {count:,}", *audit(config)))
        arrive(root, drawn, asked.images, asked.images + asked.images // 100)
        nights.append(("1 % new", *audit(config)))
        for name, indexing, scoring, used, images, peak in nights:
            print(
                f"{name:>12}: index {indexing:6.1f} s, score {scoring:7.1f} s, processor "
                f"{used:7.1f} s, {images:7,} images, peak of a worker {peak / 2**20:.0f} MiB"
            )
        (_, *whole), (_, *night) = nights[-2:]
        print(
            f"a night of 1 % takes {sum(night[:2]) / sum(whole[:2]):.1%} of the seconds of a full "
            f"one, and {night[2] / whole[2]:.1%} of its processor seconds"
        )


if __name__ == "__main__":
    main()
