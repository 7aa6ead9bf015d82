"""SPADE (Cohen and Hoshen, arXiv 2005.02357): nearest images, then nearest pixels in them.

The image score is the mean squared distance to the K nearest normal images, by the pooled last
layer. The score of a pixel is the squared distance to the nearest of all pixels of these images,
by the vectors of all layers together, with equal weights (its sections 3.2 to 3.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.paper.features import Features, Maps
from benchmarks.paper.protocol import Figures, judge_maps
from benchmarks.paper.sets import Picture
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.pyramid import PyramidShape

NEIGHBOURS = 50
PIXEL_LAYERS = 3
SIGMA = 4.0


@dataclass(frozen=True)
class Spade:
    """The normal images, by their feature maps.

    Attributes
    ----------
    maps : sequence of array
        (N, H, W, C) of each layer, finest first.
    pooled : Tensor
        Mean of the last layer that there is, (N, C).
    neighbours : int
        K; at most N.
    """

    maps: Sequence[Maps]
    pooled: Tensor
    neighbours: int

    @classmethod
    def of(cls, maps: Sequence[Maps], neighbours: int = NEIGHBOURS) -> Spade:
        """Return the system of normal images, by layers 1 to 3 and maybe a last one to pool."""
        return cls(maps[:PIXEL_LAYERS], pool(maps[-1]), min(neighbours, len(maps[0])))

    @property
    def shape(self) -> PyramidShape:
        """Grids and channels of the layers."""
        grids = tuple((m.shape[1], m.shape[2]) for m in self.maps)
        return PyramidShape(grids, tuple(m.shape[3] for m in self.maps))

    def nearest(self, pooled: Tensor) -> tuple[float, list[int]]:
        """Return the score of an image, by its pooled last layer (C,), and its neighbours."""
        squares = (self.pooled - pooled).square().sum(dim=1)
        lowest, places = squares.topk(self.neighbours, largest=False)
        return float(lowest.mean()), places.tolist()

    def squares(self, image: Sequence[Maps], places: Sequence[int]) -> Tensor:
        """Return the squared distance (H, W) of each pixel of an image to its nearest one.

        Vectors of a coarse layer are shared by the pixels below them, so are their distances:
        they are computed once and added. The result is that of whole vectors.

        Parameters
        ----------
        image : sequence of array
            Its feature maps (H, W, C).
        places : sequence of int
            The normal images to search.
        """
        shape = self.shape
        own = [level[..., 0] for level in shape.nest([_map(m) for m in image])]
        norms = [level.square().sum(dim=1) for level in own]
        best = torch.full((shape.positions[0],), torch.inf)
        for place in places:
            gallery = [level[..., 0] for level in shape.nest([_map(m[place]) for m in self.maps])]
            torch.minimum(best, _lowest(own, gallery, shape), out=best)
        for level, squared in enumerate(norms):
            best += squared.repeat_interleave(shape.ratio(0, level))
        return shape.unnest(best.clamp_(min=0).unsqueeze(1))[0]


def _lowest(own: Sequence[Tensor], gallery: Sequence[Tensor], shape: PyramidShape) -> Tensor:
    """Return the lowest |b|^2 - 2 a.b over gallery vectors b for each of the image's a, (G_0,).

    Both are level matrices (G_a, d_a) in nested order: the positions below a coarse one are
    neighbours, for the image and for the gallery.
    """
    coarser: Tensor | None = None
    for level in reversed(range(len(own))):
        products = torch.addmm(
            gallery[level].square().sum(dim=1), own[level], gallery[level].T, alpha=-2.0
        )
        if level == 0:  # the coarser sums are the same for all vectors of a cell: its lowest first
            cells = 1 if coarser is None else shape.ratio(0, 1)
            products = products.view(len(products), -1, cells).amin(dim=2)
            if coarser is not None:
                products.view(-1, cells, products.shape[1]).add_(coarser.unsqueeze(1))
            return products.amin(dim=1)
        if coarser is not None:
            ratio = shape.ratio(level, level + 1)
            blocks = products.view(len(coarser), ratio, coarser.shape[1], ratio)
            blocks.add_(coarser[:, None, :, None])
        coarser = products
    raise AssertionError("a pyramid has a level")


def pool(maps: Maps) -> Tensor:
    """Return the mean (N, C) of feature maps (N, H, W, C) over their positions."""
    return torch.from_numpy(np.asarray(maps, np.float32).mean(axis=(1, 2)))


def judge(features: Features, test: Sequence[Picture], geometry: InputGeometry) -> Figures:
    """Return the figures of SPADE."""
    spade = Spade.of(features.train)
    found = [spade.nearest(one) for one in pool(features.test[-1])]
    smooth = AnomalyMap.build(spade.shape.grids[0], geometry.crop, SIGMA)

    def maps() -> Iterator[Tensor]:
        for place in track(range(len(test)), description="SPADE", transient=True):
            image = [layer[place] for layer in features.test[:PIXEL_LAYERS]]
            yield smooth.full(spade.squares(image, found[place][1]).unsqueeze(0))

    return judge_maps(test, geometry, maps(), [score for score, _ in found])


def _map(layer: Maps) -> Tensor:
    """Return feature maps (H, W, C) as a batch of one, (1, C, H, W)."""
    return torch.from_numpy(np.array(layer)).permute(2, 0, 1).unsqueeze(0)
