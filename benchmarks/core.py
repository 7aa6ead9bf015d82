"""Compare the pyramid's arithmetic with the dense one, on the same embeddings, in one process.

    python -m benchmarks.core [--cases R18-100 ...] [--json] [--guard]

measures moments, factorisation, distances and the anomaly map of four models, and the
difference of the distances. `make bench` uses the allocator settings of workers, with which
dense products gain most, and for ResNet-18 also the default settings. ``--guard`` is for
continuous integration: it only checks that the pyramid of ResNet-18 is faster than dense
products, by a ratio above the noise of any machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.dense import EPSILON, DenseGaussian, DenseMoments, embed, smooth
from benchmarks.measure import Row, Runs, figure, interleave, ratio, script, seconds, show
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import Gaussian, factorise
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape

GUARD = {"moments": 2.5, "distances, batch 32": 2.0}
"""Lowest ratios that pass in continuous integration: about half of the measured ones."""


@dataclass(frozen=True)
class Case:
    """A model, and the share of the patches on which the dense one is measured.

    Patches are independent. If the dense model does not fit into memory, it is measured on
    the first patches and the time is multiplied.
    """

    name: str
    backbone: str
    crop: int
    channels: int | None
    share: int = 1


CASES = (
    Case("R18-100", "resnet18", 224, 100),
    Case("R18-448", "resnet18", 224, None),
    Case("WR50-550", "wide_resnet50_2", 224, 550, share=14),
    Case("EfficientNet-B5", "efficientnet_b5", 224, None),
)


def maps_of(shape: PyramidShape, images: int, generator: torch.Generator) -> list[Tensor]:
    """Return feature maps with spread and offset like a ResNet's, channels last."""
    return [
        (torch.randn(images, h, w, d, generator=generator) * 0.4 + torch.rand(d)).permute(
            0, 3, 1, 2
        )
        for d, (h, w) in zip(shape.channels, shape.grids, strict=True)
    ]


def compare(case: Case, batch: int, rounds: int) -> tuple[dict[str, Runs], float]:
    """Return the seconds of ``pyramid`` and ``dense`` in each step, and the largest difference.

    Steps of a batch, except the factorisation. Moments and distances begin with feature maps,
    as a trunk gives them; the pyramid puts them in nested order, the dense one concatenates.
    """
    layers = DEFAULTS[case.backbone].layers
    _, shape = plan_trunk(case.backbone, layers, case.channels, 1024, (case.crop, case.crop))
    generator = torch.Generator().manual_seed(0)
    normal, new = maps_of(shape, batch, generator), maps_of(shape, batch, generator)
    moments = Moments.zeros(shape)
    dense = DenseMoments(shape.positions[0] // case.share, shape.depth)
    found: dict[str, Runs] = {}

    def patches(maps: list[Tensor]) -> Tensor:
        return embed([m[:, :, : m.shape[2] // case.share] for m in maps])

    def versus(step: str, mine: Callable[[], Any], theirs: Callable[[], Any], share: int) -> None:
        works = {"pyramid": lambda: seconds(mine), "dense": lambda: share * seconds(theirs)}
        if step != "factorise":
            interleave(1, works)  # warm-up
        found[step] = interleave(1 if step == "factorise" else rounds, works)

    share = case.share
    versus(
        "moments",
        lambda: moments.update(shape.nest(normal)),
        lambda: dense.update(patches(normal)),
        share,
    )
    kept: dict[str, Any] = {}

    def factorise_mine() -> None:
        kept["pyramid"] = factorise(moments, Covariance.of(moments, EPSILON))

    def factorise_theirs() -> None:
        kept.pop("dense", None)
        kept["dense"] = DenseGaussian.fit(dense, EPSILON)

    versus("factorise", factorise_mine, factorise_theirs, share)
    mine, theirs = kept["pyramid"], kept["dense"]
    assert isinstance(mine, Gaussian)
    for count in (1, batch):
        some = [m[:count] for m in new]
        versus(
            f"distances, batch {count}",
            lambda some=some: shape.unnest(mine.distances(shape.nest(some))),
            lambda some=some: theirs.distances(patches(some)),
            share,
        )
    distances = shape.unnest(mine.distances(shape.nest(new)))
    flat = distances.flatten(1).T[: len(dense.mean)]
    apart = float(((flat - theirs.distances(patches(new))).abs() / flat).max())
    anomaly_map = AnomalyMap.build(shape.grids[0], (case.crop, case.crop), 4.0)
    versus(
        "heatmap",
        lambda: anomaly_map.full(distances),
        lambda: smooth(distances, case.crop),
        1,
    )
    return found, apart


def measure(rounds: int) -> list[Row]:
    """Return the rows of the section."""
    arguments = ("--cases", CASES[0].name, "--json", "--rounds", str(rounds))
    found = script("core", *arguments, as_installed=True)
    default = [Row(**row) for row in found["rows"]]
    note = "allocator's defaults"
    named = [replace(row, note=note) for row in default if row.unit == "x"]
    return [*measure_cases(CASES, rounds), *named]


def measure_cases(cases: Sequence[Case], rounds: int) -> list[Row]:
    """Return the rows of some models, measured in this process."""
    rows = []
    for case in cases:
        found, apart = compare(case, 32, rounds)
        note = f"dense on 1/{case.share} of the patches" if case.share > 1 else ""
        for step, runs in found.items():
            what = f"{case.name} {step}"
            mine, theirs = runs["pyramid"], runs["dense"]
            rows.append(figure("core", what, [1e3 * value for value in mine], "ms"))
            rows.append(ratio("core", f"{what}: dense / pyramid", theirs, mine, note))
        what = f"{case.name} distances: greatest relative difference"
        rows.append(figure("core", what, [apart], ""))
    return rows


def guard() -> int:
    """Return exit status 0 if the pyramid of ResNet-18 is fast enough, else 1."""
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
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    if asked.guard:
        sys.exit(guard())
    rows = measure_cases([case for case in CASES if case.name in asked.cases], asked.rounds)
    if asked.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        show(rows, Console())


if __name__ == "__main__":
    main()
