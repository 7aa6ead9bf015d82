"""Layers of a network, and the plan of a trunk (section III-A).

All of it is planned on the meta device: no weights, no computation.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import fx
from torch.fx.proxy import TraceError

from padim_dist.core.backbones.maps import make_maps, run_traced
from padim_dist.core.backbones.networks import Network, build_network, is_torchvisions
from padim_dist.core.backbones.reduction import Channels, draw_channels, share_channels
from padim_dist.core.choices import Precision, Reduction
from padim_dist.core.geometry import Grid
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.spec import TrunkSpec
from padim_dist.errors import ConfigError
from padim_dist.vision import create_feature_extractor


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


_HALVES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_ANY_SIZE: Grid = (224, 224)
"""Where the forms of layers are looked at, for networks that take images of any size."""


def trace_trunk(
    backbone: str, layers: Sequence[str], size: Grid | None = None, device: str = "meta"
) -> fx.GraphModule:
    """Trace a network up to the last of some layers, without weights.

    Parameters
    ----------
    backbone : str
        Its name, as for `build_network`.
    layers : sequence of str
        Feature-node names, as in `torchvision.models.feature_extraction.get_graph_node_names`.
    size : (int, int), optional
        Height and width of the input; networks of torchvision take any.
    device : str
        ``meta``, or where it gets a random initialisation.

    Returns
    -------
    torch.fx.GraphModule
        Its output is a dict of layer name to feature map (N, C, H, W).

    Raises
    ------
    ConfigError
        If the network or a layer does not exist, a layer is named twice or gives no feature
        map, or the network cannot be traced.
    """
    return _trace(build_network(backbone, size, device=device), backbone, layers, size)


def _trace(
    network: Network, backbone: str, layers: Sequence[str], size: Grid | None
) -> fx.GraphModule:
    if len(set(layers)) < len(layers):
        raise ConfigError(f"model.layers {list(layers)} names a layer more than once")
    module = network.module
    try:
        # Tensors that its forward makes become constants on the network's own device.
        with next(module.parameters()).device, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = create_feature_extractor(
                module,
                return_nodes={name: name for name in layers},
                tracer_kwargs=network.tracing,
                suppress_diff_warning=True,
            )
    except (ValueError, KeyError) as error:
        if isinstance(error, TraceError) or "is not present" not in str(error):
            raise _untraceable(backbone, error) from error
        children = [name for name, _ in module.named_children()]
        known = [name for name, _ in module.named_modules()]
        near = {one for name in layers for one in difflib.get_close_matches(name, known, 3)}
        raise ConfigError(
            f"model.layers {list(layers)}: {str(error).split(' Hint')[0]} Feature nodes of "
            f"{backbone} begin with {', '.join(children)}; similar: "
            f"{', '.join(sorted(near - {*layers})) or 'none'}. get_graph_node_names of "
            "torchvision.models.feature_extraction lists them all"
        ) from error
    except Exception as error:  # the network's own code runs
        raise _untraceable(backbone, error) from error
    traced = fx.GraphModule(traced.eval(), traced.graph)
    if not is_torchvisions(backbone) or network.channels_last:
        make_maps(traced, layers, network, size or _ANY_SIZE)
    return traced


def _untraceable(backbone: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.backbone {backbone!r} cannot be traced by torch.fx ({type(error).__name__}: "
        f"{error}): its forward decides by values of tensors. Choose another network"
    )


def layer_shapes(
    traced: fx.GraphModule, layers: Sequence[str], crop: Grid
) -> list[tuple[int, int, int]]:
    """Return channels and grid (C, H, W) of each layer for an input size, without computing.

    Raises
    ------
    ConfigError
        If the output of a layer is not (N, C, H, W), or the input is too small.
    """
    maps = run_traced(traced, crop)
    shapes = []
    for name in layers:
        if maps[name].ndim != 4:
            raise ConfigError(
                f"layer {name!r} gives shape {tuple(maps[name].shape)}, not a feature map "
                "(N, C, H, W); choose a convolutional layer, or a vision transformer of timm "
                "(timm/NAME)"
            )
        _, channels, height, width = maps[name].shape
        shapes.append((channels, height, width))
    return shapes


def plan_trunk(
    backbone: str,
    layers: Sequence[str],
    channels: Channels,
    seed: int,
    crop: Grid,
    weights: str = "",
    precision: Precision = "float32",
    reduction: Reduction = "draw",
) -> tuple[TrunkSpec, PyramidShape]:
    """Choose the channels and plan the pyramid, without weights or computing.

    `weights` is their name, which may say how pixels are normalised. With the reduction ``project``
    all channels are kept, and `share_channels` says how many dimensions each layer gets.

    Raises
    ------
    ConfigError
        If network, layers, channels, input size and precision do not fit together. If the grids
        do not nest, the message names input sides that work.
    """
    network = build_network(backbone, crop, weights)
    traced = _trace(network, backbone, layers, crop)
    shapes = layer_shapes(traced, layers, crop)
    if precision in _HALVES and not is_torchvisions(backbone):
        _check_precision(traced, backbone, crop, precision)
    all_channels = [c for c, _, _ in shapes]
    projected = share_channels(all_channels, channels) if reduction == "project" else None
    drawn = draw_channels(all_channels, None if projected else channels, seed)
    sizes = projected or tuple(map(len, drawn))
    levels = tuple(sorted(range(len(layers)), key=lambda i: -shapes[i][1] * shapes[i][2]))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    nested = [starts[i] + c for i in levels for c in range(sizes[i])]
    paper_order = tuple(sorted(range(len(nested)), key=nested.__getitem__))
    try:
        grids, counts = tuple(shapes[i][1:] for i in levels), tuple(sizes[i] for i in levels)
        pyramid = PyramidShape(grids, counts, paper_order)
    except ConfigError as error:
        found = ", ".join(f"{name} {h}x{w}" for name, (_, h, w) in zip(layers, shapes, strict=True))
        sides = _sides_that_nest(traced, backbone, layers, crop)
        raise ConfigError(
            f"model.crop {crop[0]}x{crop[1]} gives {backbone} grids that do not nest ({found}); "
            f"sides that do: {', '.join(map(str, sides)) or 'none near; choose other layers'}"
        ) from error
    size = None if is_torchvisions(backbone) else crop
    spec = TrunkSpec(
        backbone, tuple(layers), tuple(drawn), levels, size, network.mean, network.std, projected
    )
    return spec, pyramid


def _check_precision(
    traced: fx.GraphModule, backbone: str, crop: Grid, precision: Precision
) -> None:
    """Raise ConfigError if a network mixes types of numbers. `traced` is converted."""
    dtype = _HALVES[precision]
    try:
        run_traced(traced.to(dtype), crop, dtype)
    except ConfigError as error:
        raise ConfigError(
            f"model.precision {precision!r} cannot be used with {backbone}, which computes some of "
            f"its numbers in another type; set it to float32 ({error})"
        ) from error


def _sides_that_nest(
    traced: fx.GraphModule, backbone: str, layers: Sequence[str], crop: Grid
) -> list[int]:
    """Return input sides near the requested ones whose grids divide each other."""
    is_any = is_torchvisions(backbone)  # otherwise a network is made for each size

    def nests(side: int) -> bool:
        square = (side, side)
        try:
            again = traced if is_any else trace_trunk(backbone, layers, square)
            sides = sorted((h for _, h, _ in layer_shapes(again, layers, square)))
        except ConfigError:
            return False
        return all(fine % coarse == 0 for coarse, fine in pairwise(sides))

    # Grids of the usual strides nest at multiples of 32, often of less: try multiples of 8.
    step = 8 if is_any else 32
    near = {side // step * step + more for side in crop for more in range(-32, 32 + step, step)}
    return sorted(side for side in near if side > 0 and nests(side))
