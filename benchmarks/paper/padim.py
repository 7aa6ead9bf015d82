"""PaDiM on kept feature maps: layers, their sum, draws, projections and PCA (Tables I, II).

The Gaussians are those of the pipeline, `padim_dist.core`. Only the choice of the variables is
made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.paper.features import Features, Maps, batches
from benchmarks.paper.pca import Pca
from benchmarks.paper.protocol import Figures, judge_maps
from benchmarks.paper.sets import Picture
from padim_dist.core.backbones.reduction import draw_channels, make_projections, share_channels
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import Gaussian, factorise
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.heatmap import AnomalyMap
from padim_dist.core.moments import Moments
from padim_dist.core.pyramid import PyramidShape

EPSILON = 0.01
SIGMA = 4.0
"""Regularisation and Gaussian filter of the paper (sections III-B, IV-B)."""

Change = Callable[[list[Tensor]], list[Tensor]]
"""From the feature maps (N, C, H, W) of all layers to those that a model is fitted on."""


@dataclass(frozen=True)
class Model:
    """Gaussians of the patches, with the choice of their variables.

    Attributes
    ----------
    change : callable
        See `Change`.
    shape : PyramidShape
        Grids and channels after it.
    gaussian : Gaussian
        The Gaussians.
    """

    change: Change
    shape: PyramidShape
    gaussian: Gaussian

    @classmethod
    def fit(cls, maps: Sequence[Maps], change: Change) -> Model:
        """Fit on feature maps (N, H, W, C) of normal images."""
        shape, moments = None, None
        for batch in batches(maps):
            chosen = change(batch)
            if shape is None or moments is None:
                grids = tuple((m.shape[2], m.shape[3]) for m in chosen)
                shape = PyramidShape(grids, tuple(m.shape[1] for m in chosen))
                moments = Moments.zeros(shape)
            moments.update(shape.nest(chosen))
        if shape is None or moments is None:
            raise ValueError("no images to fit on")
        return cls(change, shape, factorise(moments, Covariance.of(moments, EPSILON)))

    def maps(self, maps: Sequence[Maps], geometry: InputGeometry) -> Iterator[Tensor]:
        """Yield anomaly maps (N, H, W) of feature maps (N, H, W, C), batch by batch."""
        smooth = AnomalyMap.build(self.shape.grids[0], geometry.crop, SIGMA)
        for batch in batches(maps):
            distances = self.gaussian.distances(self.shape.nest(self.change(batch)))
            yield smooth.full(self.shape.unnest(distances))


def all_channels(batch: list[Tensor]) -> list[Tensor]:
    """Keep everything."""
    return batch


def single_layer(layer: int) -> Change:
    """Return the change that keeps a layer alone."""
    return lambda batch: [batch[layer]]


def drawn_channels(counts: Sequence[int], channels: int, seed: int) -> Change:
    """Return the change that keeps drawn channels of layers: the pipeline's draw of that seed."""
    drawn = draw_channels(counts, channels, seed)
    kept = [torch.tensor(places) for places in drawn]

    def change(batch: list[Tensor]) -> list[Tensor]:
        return [m.index_select(1, places) for m, places in zip(batch, kept, strict=True)]

    return change


def projected_channels(counts: Sequence[int], channels: int, seed: int) -> Change:
    """Return the change that projects each layer at random: the pipeline's of that seed."""
    matrices = [*make_projections(counts, share_channels(counts, channels), seed).values()]

    def change(batch: list[Tensor]) -> list[Tensor]:
        return [
            (m.permute(0, 2, 3, 1) @ matrix).permute(0, 3, 1, 2)
            for m, matrix in zip(batch, matrices, strict=True)
        ]

    return change


def judge(
    features: Features, test: Sequence[Picture], geometry: InputGeometry, change: Change
) -> Figures:
    """Fit a model on the training images and return its figures on the test images."""
    model = Model.fit(features.train, change)
    return judge_maps(test, geometry, model.maps(features.test, geometry))


def judge_sum(features: Features, test: Sequence[Picture], geometry: InputGeometry) -> Figures:
    """Return the figures of the sum of the maps of single layers: no correlations (Table I)."""
    models = [Model.fit(features.train, single_layer(i)) for i in range(len(features.train))]
    several = zip(*(model.maps(features.test, geometry) for model in models), strict=True)
    return judge_maps(test, geometry, (torch.stack(maps).sum(dim=0) for maps in several))


def judge_pca(
    features: Features, test: Sequence[Picture], geometry: InputGeometry, components: int
) -> Figures:
    """Return the figures of PaDiM on principal components (Table II)."""
    pca = Pca.fit(features.train, components)
    return judge(features, test, geometry, lambda batch: [pca.project(batch)])
