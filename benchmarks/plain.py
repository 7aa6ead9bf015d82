"""Run a plain dense PaDiM in one process: fit and score an archive in MVTec's layout.

    python -m benchmarks.plain ROOT WEIGHTS

It uses this project's decoding and trunk, two threads, and dense batched products instead of
the pyramid. It keeps only the model and writes nothing. Prints images a second of both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.dense import EPSILON, DenseGaussian, DenseMoments, embed, smooth
from benchmarks.resnet import GEOMETRY, load_pixels, load_trunk, plan
from padim_dist.archive.reading.transform import together
from padim_dist.core.heatmap import find_peaks

BATCH = 32


def load(path: Path) -> Tensor:
    """Return the pixels of a file."""
    return load_pixels(path.read_bytes())


def batches(paths: list[Path]) -> Iterator[Tensor]:
    """Yield batches of pixels, loaded by two threads, one batch ahead."""
    with ThreadPoolExecutor(2) as pool:
        pieces = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        ahead = [pool.submit(load, path) for path in pieces[0]]
        for after in [*pieces[1:], []]:
            now, ahead = ahead, [pool.submit(load, path) for path in after]
            yield together([future.result() for future in now])


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    root, weights = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(2)
    _, shape = plan()
    trunk = load_trunk(weights)
    normal = sorted((root / "train").rglob("*.jpg"))
    every = normal + sorted((root / "test").rglob("*.jpg"))
    trunk(torch.zeros(BATCH, 3, *GEOMETRY.crop, dtype=torch.uint8))
    began = time.perf_counter()
    moments = DenseMoments(shape.positions[0], shape.depth)
    for pixels in batches(normal):
        moments.update(embed(trunk(pixels)))
    gaussian = DenseGaussian.fit(moments, EPSILON)
    fitted = time.perf_counter()
    for pixels in batches(every):
        distances = gaussian.distances(embed(trunk(pixels)))
        find_peaks(smooth(distances.T.unflatten(1, shape.grids[0]), GEOMETRY.crop[0]))
    ended = time.perf_counter()
    print(
        json.dumps({"fit": len(normal) / (fitted - began), "score": len(every) / (ended - fitted)})
    )


if __name__ == "__main__":
    main()
