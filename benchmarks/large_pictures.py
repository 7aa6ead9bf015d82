"""Measure large pictures: memory of a worker against its projection, and which defects are found.

    python -m benchmarks.large_pictures memory [--megapixels 12] [--resize 1024] [--images 8]
    python -m benchmarks.large_pictures defects [--resizes 128 256 512]

`memory` fits and scores JPEG files of noise-like texture with one worker of one thread, and prints
the peak of its resident memory, what `doctor` projects, and the worker's processor seconds an
image, start and last stages included. `defects` darkens
a square in each normal test image, at a random place of the part, and prints the image AUROC
against the unchanged ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import padim_dist as padim
from benchmarks.pictures import Pictures, find_pictures
from padim_dist.api.settings import plans
from padim_dist.archive.reading.transform import prepare
from padim_dist.config import ClusterConfig, make_config
from padim_dist.core.covariance import Covariance
from padim_dist.core.embedding import Embedder
from padim_dist.core.evaluation.metrics import exact_curve
from padim_dist.core.gaussian import factorise, squared_lengths
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.engine.cluster.local import open_local
from padim_dist.engine.memory import projection

_SIDES = (4, 6, 8, 12, 16, 24)
"""Sides of the squares, in pixels of a picture of 512."""
_DARKER = 50
"""Grey levels by which they are darker."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "defects"))
    parser.add_argument("--megapixels", type=int, default=12)
    parser.add_argument("--resize", type=int, default=1024)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--resizes", type=int, nargs="+", default=(128, 256, 512))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "memory":
            _memory(Path(folder), asked)
        else:
            _defects(find_pictures(Path(folder)), asked.resizes)


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _memory(folder: Path, asked: argparse.Namespace) -> None:
    height = round((asked.megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    rng = np.random.default_rng(0)
    for number in range(asked.images):
        coarse = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        path = folder / "archive" / "good" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(path, quality=90)
    with open_local(ClusterConfig(workers=1, memory="18GiB"), 1, None) as client:
        config = make_config(
            {
                "workspace": str(folder / "audit"),
                "archive": {
                    "url": str(folder / "archive"),
                    "max_pixels": max(32, asked.megapixels + 1) * 1_000_000,
                },
                "model": {
                    "weights": "random",
                    "resize": asked.resize,
                    "crop": asked.resize,
                    "channels": asked.channels,
                },
                "cluster": {"kind": "address", "address": client.scheduler.address},
            }
        )
        spec = plans.plan_embedding(config)
        rest = plans.state_bytes(plans.load_state(config, spec.trunk)), 2, config.archive.max_pixels
        for stage, work, need in (
            ("fit", padim.fit, projection.fit_need(spec, *rest, asked.images)),
            ("score", padim.score, projection.score_need(spec, *rest, asked.images)),
        ):
            before = client.submit(time.process_time, pure=False).result(60)
            work(config)
            busy = client.submit(time.process_time, pure=False).result(60) - before
            peak = client.submit(peak_memory, pure=False).result(60)
            print(
                f"{stage}: {width}x{height} pixels to {asked.resize}: peak {peak / 2**30:.2f} GiB, "
                f"projected {need}, {busy / asked.images:.1f} s of a core an image",
                flush=True,
            )


def _defects(pictures: Pictures, resizes: list[int]) -> None:
    normal = sorted((pictures.root / "train/good").glob("*.jpg"))
    tested = sorted((pictures.root / "test/good").glob("*.jpg"))
    for resize in resizes:
        found = _aurocs(pictures, resize, normal, tested)
        told = ", ".join(f"{side * resize / 512:g} px: {auroc:.3f}" for side, auroc in found)
        print(f"resize {resize}: side of the square and AUROC: {told}", flush=True)


@torch.inference_mode()
def _aurocs(
    pictures: Pictures, resize: int, normal: list[Path], tested: list[Path]
) -> list[tuple[int, float]]:
    """Return the image AUROC by side of the square."""
    config = pictures.config("unused", model={"resize": resize, "crop": resize, "channels": 100})
    spec = plans.plan_embedding(config)
    state = plans.load_state(config, spec.trunk)
    embed = Embedder(spec, state, torch.device("cpu"))
    moments = Moments.zeros(spec.shape)
    for start in range(0, len(normal), spec.batch):
        some = [_read(path) for path in normal[start : start + spec.batch]]
        moments.update(embed(torch.stack([prepare(one, spec.geometry) for one in some])))
    gaussian = factorise(moments, Covariance.of(moments, config.model.epsilon, "none"))
    size = spec.geometry.crop
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], size, config.model.sigma)

    def score(image: torch.Tensor) -> float:
        squares = squared_lengths(gaussian.whitened(embed(prepare(image, spec.geometry)[None])))
        maps = anomaly_map.full(spec.shape.unnest(squares.sqrt()), spec.shape.mask)
        return float(find_peaks(maps)[0])

    images = [_read(path) for path in tested]
    good = [score(image) for image in images]
    found = []
    for side in _SIDES:
        bad = [score(_darkened(image, side, place)) for place, image in enumerate(images)]
        labels = np.repeat([False, True], len(images))
        found.append((side, exact_curve(np.array(good + bad), labels).auroc()))
    return found


def _read(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB").resize((512, 512)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _darkened(image: torch.Tensor, side: int, seed: int) -> torch.Tensor:
    """Return an image with a darker square on the ring of the part."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(60, 190)
    y = round(256 + radius * np.sin(angle) - side / 2)
    x = round(256 + radius * np.cos(angle) - side / 2)
    changed = image.clone()
    part = changed[:, y : y + side, x : x + side].int()
    changed[:, y : y + side, x : x + side] = (part - _DARKER).clamp(0, 255).to(torch.uint8)
    return changed


if __name__ == "__main__":
    main()
