"""Layers of a torchvision model and the random draw of their channels (sections III-A, III-B).

All of it is planned on the meta device: no weights, no computation.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torchvision
from torch import fx
from torchvision.models import get_model, list_models
from torchvision.models.feature_extraction import create_feature_extractor

from padim_dist.core.geometry import Grid
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.spec import TrunkSpec
from padim_dist.errors import ConfigError


class Defaults(NamedTuple):
    """Default layers by feature-node name, and the number of drawn channels (None: all)."""

    layers: tuple[str, ...]
    channels: int | None


_RESNET = ("layer1", "layer2", "layer3")
DEFAULTS = {
    "resnet18": Defaults(_RESNET, 100),
    "resnet34": Defaults(_RESNET, 100),
    "resnet50": Defaults(_RESNET, 550),
    "wide_resnet50_2": Defaults(_RESNET, 550),
    "efficientnet_b5": Defaults(("features.2", "features.4", "features.5"), None),
}


def check_backbone(backbone: str) -> None:
    """Raise ConfigError unless this is a torchvision classification model with channels first."""
    names = list_models(module=torchvision.models)
    if backbone not in names:
        near = difflib.get_close_matches(backbone, names, 3, 0.5)
        raise ConfigError(
            f"model.backbone {backbone!r} is not a torchvision classification model; similar: "
            f"{', '.join(near) or 'none'}; tested: {', '.join(DEFAULTS)}"
        )
    if backbone.startswith("swin"):
        raise ConfigError(
            f"model.backbone {backbone!r} has feature maps with channels last, which are not "
            "supported; choose a convolutional network"
        )


def trace_trunk(backbone: str, layers: Sequence[str]) -> fx.GraphModule:
    """Trace a torchvision model up to the last of some layers, without weights.

    Parameters
    ----------
    backbone : str
        Model name, as in `torchvision.models.list_models()`.
    layers : sequence of str
        Feature-node names, as in `torchvision.models.feature_extraction.get_graph_node_names`.

    Returns
    -------
    torch.fx.GraphModule
        On the meta device; its output is a dict of layer name to feature map.

    Raises
    ------
    ConfigError
        If the model or a layer does not exist, or a layer is named twice.
    """
    check_backbone(backbone)
    if len(set(layers)) < len(layers):
        raise ConfigError(f"model.layers {list(layers)} names a layer more than once")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old models warn about their initialisation
        model = get_model(backbone, weights=None).eval()
    try:
        traced = create_feature_extractor(model, return_nodes={name: name for name in layers})
    except (ValueError, KeyError) as error:
        children = [name for name, _ in model.named_children()]
        raise ConfigError(
            f"model.layers {list(layers)}: {str(error).split(' Hint')[0]} Feature nodes of "
            f"{backbone} begin with {', '.join(children)}; get_graph_node_names of "
            "torchvision.models.feature_extraction lists them all"
        ) from error
    return fx.GraphModule(traced.eval(), traced.graph)


def layer_shapes(
    traced: fx.GraphModule, layers: Sequence[str], crop: Grid
) -> list[tuple[int, int, int]]:
    """Return channels and grid (C, H, W) of each layer for an input size, without computing.

    Raises
    ------
    ConfigError
        If the output of a layer is not (N, C, H, W), or the input is too small.
    """
    try:
        maps = traced(torch.empty(1, 3, *crop, device="meta"))
    except RuntimeError as error:
        raise ConfigError(f"model.crop {crop[0]}x{crop[1]} cannot be used: {error}") from error
    shapes = []
    for name in layers:
        if maps[name].ndim != 4:
            raise ConfigError(
                f"layer {name!r} gives shape {tuple(maps[name].shape)}, not a feature map "
                "(N, C, H, W); choose a convolutional layer"
            )
        shapes.append(tuple(maps[name].shape[1:]))
    return shapes


def draw_channels(counts: Sequence[int], channels: int | None, seed: int) -> list[tuple[int, ...]]:
    """Draw channels at random from the concatenated layers (section III-B).

    Parameters
    ----------
    counts : sequence of int
        Channels of each layer.
    channels : int or None
        Number of channels to draw in all; None keeps all.
    seed : int
        Seed of the draw.

    Returns
    -------
    list of tuple of int
        For each layer, its drawn channels, ascending.

    Raises
    ------
    ConfigError
        If there are fewer than `channels`, or a layer is left without any.
    """
    total = sum(counts)
    channels = total if channels is None else channels
    if channels > total:
        raise ConfigError(
            f"model.channels asks for {channels}, but the layers have {total} in all "
            f"({' + '.join(map(str, counts))}); ask for at most {total}, or null for all"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = sorted(torch.randperm(total, generator=generator)[:channels].tolist())
    drawn, start = [], 0
    for layer, count in enumerate(counts):
        drawn.append(tuple(c - start for c in chosen if start <= c < start + count))
        start += count
        if not drawn[-1]:
            raise ConfigError(
                f"model.channels {channels} with seed {seed} leaves layer {layer + 1} of "
                f"{len(counts)} without any channel; raise model.channels or drop the layer"
            )
    return drawn


def plan_trunk(
    backbone: str, layers: Sequence[str], channels: int | None, seed: int, crop: Grid
) -> tuple[TrunkSpec, PyramidShape]:
    """Draw the channels and plan the pyramid, without weights or computing.

    Raises
    ------
    ConfigError
        If model, layers, channels and input size do not fit together. If the grids do not
        nest, the message names input sides that work.
    """
    traced = trace_trunk(backbone, layers)
    shapes = layer_shapes(traced, layers, crop)
    drawn = draw_channels([c for c, _, _ in shapes], channels, seed)
    levels = tuple(sorted(range(len(layers)), key=lambda i: -shapes[i][1] * shapes[i][2]))
    starts = [sum(len(d) for d in drawn[:i]) for i in range(len(drawn))]
    nested = [starts[i] + c for i in levels for c in range(len(drawn[i]))]
    paper_order = tuple(sorted(range(len(nested)), key=nested.__getitem__))
    try:
        grids, counts = tuple(shapes[i][1:] for i in levels), tuple(len(drawn[i]) for i in levels)
        pyramid = PyramidShape(grids, counts, paper_order)
    except ConfigError as error:
        found = ", ".join(f"{name} {h}x{w}" for name, (_, h, w) in zip(layers, shapes, strict=True))
        raise ConfigError(
            f"model.crop {crop[0]}x{crop[1]} gives {backbone} grids that do not nest ({found}); "
            f"sides that do: {', '.join(map(str, _sides_that_nest(traced, layers, crop)))}"
        ) from error
    return TrunkSpec(backbone, tuple(layers), tuple(drawn), levels), pyramid


def _sides_that_nest(traced: fx.GraphModule, layers: Sequence[str], crop: Grid) -> list[int]:
    """Return input sides near the requested ones whose grids divide each other."""

    def nests(side: int) -> bool:
        try:
            sides = sorted((h for _, h, _ in layer_shapes(traced, layers, (side, side))))
        except ConfigError:
            return False
        return all(fine % coarse == 0 for coarse, fine in pairwise(sides))

    # Grids of the usual strides nest at multiples of 32, often of less: try multiples of 8.
    near = {side // 8 * 8 + step for side in crop for step in range(-32, 40, 8)}
    return sorted(side for side in near if side > 0 and nests(side))
