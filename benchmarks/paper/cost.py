"""Tables VII and VIII: inference time of one image, and memory of the parameters.

    python -m benchmarks.paper.cost [--rounds 7] [--threads 1]

needs a machine that does nothing else, a few minutes and 8 GB, and neither images nor weights:
times and memory do not depend on their values, so random ones are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.progress import track
from torch import Tensor
from torchvision.models import get_model

from benchmarks.dense import DenseGaussian, embed, smooth
from benchmarks.measure import machine, seconds
from benchmarks.paper import pipeline, published
from benchmarks.paper.page import Table, printed, write_tables
from benchmarks.paper.protocol import no_gradients
from benchmarks.paper.spade import NEIGHBOURS, Spade
from benchmarks.paper.vae import SIDE, Vae, error_maps
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.gaussian import Gaussian
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.spec import TrunkSpec
from padim_dist.core.trunk import Trunk, random_state

PAGE = Path(__file__).parents[2] / "docs" / "paper.md"
MVTEC, CAMPUS = 224, 256
"""Sides of the trunk's input."""
IMAGES = {MVTEC: 242, CAMPUS: 5_000}
"""Training images: the mean of MVTec AD's categories; what SPADE's authors take of a scene."""
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A system: its time and its parameters.

    Attributes
    ----------
    name : str
        Name in the tables.
    paper : str
        Name among the published figures.
    prepare : callable
        Returns the inference of one image.
    numbers : callable
        Parameters, given the side of the input.
    """

    name: str
    paper: str
    prepare: Callable[[], Work]
    numbers: Callable[[int], int | None]


def systems() -> list[Row]:
    """Return the rows of both tables."""
    rows = []
    for system in (pipeline.R18, pipeline.WR50, pipeline.B5):
        for is_dense in (False, True):
            rows.append(
                Row(
                    f"{system.name}, {'dense' if is_dense else 'pyramid'}",
                    system.name,
                    partial(padim, system, is_dense=is_dense),
                    partial(padim_numbers, system, is_dense=is_dense),
                )
            )
    for backbone, short in (("resnet18", "R18"), ("wide_resnet50_2", "WR50")):
        rows.append(
            Row(
                f"SPADE-{short}",
                f"SPADE-{short}",
                partial(spade, backbone),
                partial(spade_numbers, backbone),
            )
        )
    rows.append(Row("VAE", "VAE", vae, lambda side: _count(Vae()) if side == MVTEC else None))
    return rows


def padim(system: pipeline.Padim, is_dense: bool) -> Work:
    """Return the inference of PaDiM, from uint8 pixels to the anomaly map."""
    shape, trunk = _trunk(system.backbone, system.channels)
    image = torch.randint(0, 256, (1, 3, MVTEC, MVTEC), dtype=torch.uint8)
    if is_dense:
        dense = DenseGaussian.standard(shape.positions[0], shape.depth)
        grid = shape.grids[0]
        return lambda: smooth(dense.distances(embed(trunk(image))).T.reshape(-1, *grid), MVTEC)
    gaussian = standard_gaussian(shape)
    full = AnomalyMap.build(shape.grids[0], (MVTEC, MVTEC), 4.0)
    return lambda: full.full(shape.unnest(gaussian.distances(shape.nest(trunk(image)))))


def padim_numbers(system: pipeline.Padim, side: int, is_dense: bool) -> int:
    """Return the parameters of PaDiM: those of the whole network, means and covariances."""
    _, shape = _plan(system.backbone, system.channels, side)
    network = _count(_network(system.backbone))
    if is_dense:
        return network + shape.positions[0] * (shape.depth**2 + shape.depth)
    return network + shape.numbers


def standard_gaussian(shape: PyramidShape) -> Gaussian:
    """Return a Gaussian of independent standard variables."""
    whiten = [
        torch.eye(d).expand(positions, d, d).contiguous()
        for positions, d in zip(shape.positions, shape.channels, strict=True)
    ]
    return Gaussian(
        mean=[torch.zeros(shape.mean_shape(a)) for a in range(shape.levels)],
        whiten=whiten,
        lower={(a, b): torch.zeros(shape.block_shape(a, b)) for a, b in shape.pairs if a != b},
        kept=torch.ones(shape.cells),
    )


def spade(backbone: str) -> Work:
    """Return the inference of SPADE: the trunk, nearest images, then nearest pixels."""
    shape, trunk = _trunk(backbone, None)
    image = torch.randint(0, 256, (1, 3, MVTEC, MVTEC), dtype=torch.uint8)
    levels = zip(shape.grids, shape.channels, strict=True)
    maps = [torch.rand(NEIGHBOURS, h, w, d).numpy() for (h, w), d in levels]
    # All images count where the nearest ones are chosen; only these are searched.
    pooled = torch.rand(IMAGES[MVTEC], shape.channels[-1])
    system = Spade(maps, pooled, NEIGHBOURS)
    full = AnomalyMap.build(shape.grids[0], (MVTEC, MVTEC), 4.0)

    def work() -> Tensor:
        found = [m[0].permute(1, 2, 0).numpy() for m in trunk(image)]
        _, places = system.nearest(torch.from_numpy(found[-1].mean(axis=(0, 1))))
        places = [place % NEIGHBOURS for place in places]
        return full.full(system.squares(found, places).unsqueeze(0))

    return work


def spade_numbers(backbone: str, side: int) -> int:
    """Return the parameters of SPADE: the network, and feature maps of all training images."""
    _, shape = _plan(backbone, None, side)
    network = _network(backbone)
    classes = network.get_parameter("fc.weight")
    return _count(network) + IMAGES[side] * (sum(shape.sizes) + classes.shape[1])


def vae() -> Work:
    """Return the inference of the autoencoder."""
    model = Vae().eval()
    image = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)
    return lambda: error_maps(model, image)


def measure(row: Row, rounds: int) -> float:
    """Return the median time of a system, in seconds."""
    work = row.prepare()
    work()  # caches and first allocations
    return median(seconds(work) for _ in range(rounds))


def table_7(rounds: int, threads: int) -> Table:
    """Measure the times."""
    rows = systems()
    torch.set_num_threads(threads)
    times = {row.name: measure(row, rounds) for row in track(rows, "times", transient=True)}
    cells = [
        [row.name, f"{times[row.name]:.3f}", printed(published.SECONDS.get(row.paper), 2)]
        for row in rows
    ]
    here, what = machine(), "1 thread" if threads == 1 else f"{threads} threads"
    note = f"{here['processor']}, torch {here['torch']}, {what}, median of {rounds} images."
    return Table("VII", ("system", "seconds an image", "published"), cells, note)


def table_8() -> Table:
    """Count the parameters."""
    cells = []
    for row in systems():
        cells.append([row.name])
        wanted = published.GIGABYTES.get(row.paper, (None, None))
        for (side, images), gigabytes in zip(IMAGES.items(), wanted, strict=True):
            numbers = row.numbers(side)
            needed = f"{images:,}" if row.name.startswith("SPADE") else "any"
            found = printed(4e-9 * numbers if numbers else None, 2)
            told = "–" if gigabytes is None else f"{gigabytes:g}"
            cells[-1] += [needed if numbers else "–", found, told]
    header = (
        *("system", "N", "GB, MVTec AD", "published"),
        *("N", "GB, ShanghaiTech", "published"),
    )
    return Table("VIII", header, cells)


def _plan(backbone: str, channels: int | None, side: int) -> tuple[TrunkSpec, PyramidShape]:
    return plan_trunk(backbone, DEFAULTS[backbone].layers, channels, 1024, (side, side))


def _trunk(backbone: str, channels: int | None) -> tuple[PyramidShape, Trunk]:
    spec, shape = _plan(backbone, channels, MVTEC)
    return shape, Trunk(spec, random_state(backbone, spec.layers, 0))


def _network(backbone: str) -> torch.nn.Module:
    """Return the whole network without numbers."""
    with torch.device("meta"):
        network: torch.nn.Module = get_model(backbone, weights=None)
    return network


def _count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    no_gradients()
    write_tables(asked.page, [table_8(), table_7(asked.rounds, asked.threads)])


if __name__ == "__main__":
    main()
