"""Measure the memory of a fit by size of the archive, and the size of its model.

    python -m benchmarks.memory ROOT WEIGHTS WORKSPACE

fits an archive and prints the peaks of the memory of its processes: proportional set size, so that
what they share counts once.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import padim_dist as padim
from benchmarks.core import CASES
from benchmarks.measure import Proportional, Row, figure, script
from benchmarks.pictures import Pictures
from padim_dist.core.backbone import DEFAULTS, plan_trunk

_SIZES = (200, 2_000, 20_000)
_PEAKS = {
    "worker": "a worker",
    "driver": "the driver",
    "together": "all processes together",
}


def measure(pictures: Pictures, place: Path) -> list[Row]:
    """Return the rows of the section."""
    rows = []
    peaks = {}
    every = len(list((pictures.root / "train").rglob("*.jpg")))
    for size in _SIZES:
        folder = place / f"memory-{size}"
        many = pictures.times(folder, -(-size // every))
        for path in sorted((folder / "train").rglob("*.jpg"))[size:]:
            path.unlink()
        found = script("memory", str(folder), str(many.weights), str(place / f"fit-{size}"))
        peaks[size] = found
        for key, what in _PEAKS.items():
            name = f"fit of {size:,} images: peak of {what}"
            rows.append(figure("memory", name, [found[key] / 2**20], "MiB"))
    least, most = _SIZES[0], _SIZES[-1]
    for key in ("worker", "together"):
        name = f"peak of {_PEAKS[key]} at {most:,} / at {least:,} images"
        rows.append(figure("memory", name, [peaks[most][key] / peaks[least][key]], "x"))
    for case in CASES:
        layers = DEFAULTS[case.backbone].layers
        _, shape = plan_trunk(case.backbone, layers, case.channels, 1024, (case.crop,) * 2)
        mine = 4 * shape.numbers
        dense = 4 * shape.positions[0] * (shape.depth + shape.depth**2)
        name = f"{case.name}: Gaussian, float32 (dense {dense / 1e6:,.0f} MB)"
        rows.append(figure("memory", name, [mine / 1e6], "MB"))
        rows.append(figure("memory", f"{case.name}: dense / pyramid", [dense / mine], "x"))
    return rows


def main() -> None:
    """Fit and print."""
    root, weights, workspace = map(Path, sys.argv[1:4])
    memory = Proportional()
    with memory.sampled():
        padim.fit(Pictures(root, weights, "").config(workspace))
    print(json.dumps(asdict(memory)))


if __name__ == "__main__":
    main()
