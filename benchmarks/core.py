"""The pyramid's arithmetic against the dense one, on the same embeddings, in one process.

    python -m benchmarks.core [--guard]

measures moments, factorisation, distances and the anomaly map of four models, and how far
the distances are apart. With ``--guard`` only what continuous integration watches: that the
pyramid of ResNet-18 is far ahead of dense products, by a ratio that no machine's noise makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from benchmarks.dense import DenseGaussian, DenseMoments, embed
from benchmarks.measure import Row, Runs, figure, interleave, ratio, seconds, show
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import Gaussian, factorise
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape

EPSILON = 0.01
GUARD = {"moments": 10.0, "distances": 3.0}
"""Lowest ratios that continuous integration lets pass: about half of what is measured."""


@dataclass(frozen=True)
class Case:
    """A model, and the share of the patches that the dense one is measured on.

    Where the dense one does not fit into memory, its patches being independent, it is
    measured on a part of them and multiplied.
    """

    name: str
    backbone: str
    crop: int
    channels: int | None
    share: int = 1


CASES = (
    Case("R18-100", "resnet18", 224, 100),
    Case("R18-448", "resnet18", 224, None),
    Case("WR50-550", "wide_resnet50_2", 224, 550, share=16),
    Case("EfficientNet-B5", "efficientnet_b5", 224, None),
)


def maps_of(shape: PyramidShape, images: int, generator: torch.Generator) -> list[Tensor]:
    """Feature maps with spread and offset like a ResNet's."""
    return [
        torch.randn(images, d, h, w, generator=generator) * 0.4 + torch.rand(d, 1, 1)
        for d, (h, w) in zip(shape.channels, shape.grids, strict=True)
    ]


def compare(case: Case, batch: int, rounds: int) -> tuple[dict[str, Runs], float]:
    """Seconds of ``pyramid`` and ``dense`` in each step, and the greatest relative difference.

    Steps of a batch, except the factorisation.
    """
    layers = DEFAULTS[case.backbone].layers
    _, shape = plan_trunk(case.backbone, layers, case.channels, 1024, (case.crop, case.crop))
    generator = torch.Generator().manual_seed(0)
    normal, new = maps_of(shape, batch, generator), maps_of(shape, batch, generator)
    levels, others = shape.nest(normal), shape.nest(new)
    # The dense one sees the first of every so many patches.
    patches, unseen = (
        embed(normal)[:: case.share].contiguous(),
        embed(new)[:: case.share].contiguous(),
    )
    moments = Moments.zeros(shape)
    dense = DenseMoments(len(patches), shape.depth)
    found: dict[str, Runs] = {}

    def versus(step: str, mine: Callable[[], Any], theirs: Callable[[], Any], share: int) -> None:
        works = {"pyramid": lambda: seconds(mine), "dense": lambda: share * seconds(theirs)}
        interleave(1, works)
        found[step] = interleave(rounds, works)

    share = case.share
    versus("moments", lambda: moments.update(levels), lambda: dense.update(patches), share)
    kept: dict[str, Any] = {}

    def factorise_mine() -> None:
        kept["pyramid"] = factorise(moments, Covariance.of(moments, EPSILON))

    def factorise_theirs() -> None:
        kept.pop("dense", None)
        kept["dense"] = DenseGaussian(dense, EPSILON)

    versus("factorise", factorise_mine, factorise_theirs, share)
    mine, theirs = kept["pyramid"], kept["dense"]
    assert isinstance(mine, Gaussian)
    versus("distances", lambda: mine.distances(others), lambda: theirs.distances(unseen), share)
    distances = shape.unnest(mine.distances(others))
    flat = distances.flatten(1).T[::share]
    apart = float(((flat - theirs.distances(unseen)).abs() / flat).max())
    anomaly_map = AnomalyMap.build(shape.grids[0], (case.crop, case.crop), 4.0)
    versus(
        "heatmap",
        lambda: anomaly_map.full(distances),
        lambda: _smooth(distances, case.crop),
        1,
    )
    return found, apart


def _smooth(distances: Tensor, size: int) -> Tensor:
    """Bicubic up-sampling, then a two-dimensional Gaussian filter of 33 x 33."""
    offsets = torch.arange(-16, 17) / 4.0
    line = torch.exp(-0.5 * offsets.square())
    kernel = torch.outer(line, line) / line.sum() ** 2
    maps = functional.interpolate(distances[:, None], size=(size, size), mode="bicubic")
    padded = functional.pad(maps, (16, 16, 16, 16), mode="reflect")
    return functional.conv2d(padded, kernel[None, None])[:, 0]


def measure(rounds: int, batches: tuple[int, ...] = (1, 32)) -> list[Row]:
    """Rows of the section."""
    rows = []
    for case in CASES:
        for batch in batches:
            found, apart = compare(case, batch, rounds)
            note = f"dense on 1/{case.share} of the patches" if case.share > 1 else ""
            for step, runs in found.items():
                if batch > 1 or step == "distances":
                    what = f"{case.name} {step}, batch {batch}"
                    rows.append(figure("core", what, [1e3 * s for s in runs["pyramid"]], "ms"))
                    mine, theirs = runs["pyramid"], runs["dense"]
                    rows.append(ratio("core", f"{what}: dense / pyramid", theirs, mine, note))
            what = f"{case.name} distances, batch {batch}: greatest relative difference"
            rows.append(figure("core", what, [apart], ""))
    return rows


def guard() -> int:
    """Whether the pyramid of ResNet-18 is as far ahead as it has to be: an exit status."""
    found, apart = compare(CASES[0], 32, rounds=9)
    status = 0
    for step, least in GUARD.items():
        ahead = median(found[step]["dense"]) / median(found[step]["pyramid"])
        print(f"{step}: the pyramid is {ahead:.1f} times as fast as dense products (>= {least:g})")
        status |= ahead < least
    print(f"distances: {apart:.1e} apart at most (<= 1e-5)")
    return int(status or apart > 1e-5)


def main() -> None:
    """Measure and print, or guard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    if asked.guard:
        sys.exit(guard())
    show(measure(asked.rounds), Console())


if __name__ == "__main__":
    main()
