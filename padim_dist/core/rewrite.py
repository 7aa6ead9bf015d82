"""Rewrites of a trunk's graph that change its cost and not its numbers, up to float rounding.

Each works in place on a traced network in eval mode; whoever calls them recompiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torchvision.ops import stochastic_depth

_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Dropout, nn.Identity)


def fold_normalisation(graph: fx.GraphModule, mean: Tensor, std: Tensor) -> tuple[int, int]:
    """Let the network take raw pixels, by what its first convolution does with them.

    A convolution pads with zeros *after* the normalisation, which are pixels of the value
    `mean` before it: so the padding has to come from outside.

    Parameters
    ----------
    graph : GraphModule
        Takes pixels normalised by ``(x - mean) / std``; changed in place.
    mean, std : Tensor
        Of the channels, in units of the raw pixels, shape (C,).

    Returns
    -------
    (int, int)
        Rows and columns of the value `mean` to put around the raw pixels on each side. None
        where the network does not begin with a plain convolution: there the normalisation
        becomes a layer of its own.
    """
    pixels = next(node for node in graph.graph.nodes if node.op == "placeholder")
    first = next(iter(pixels.users))
    conv = graph.get_submodule(str(first.target)) if first.op == "call_module" else None
    if (
        len(pixels.users) > 1
        or not isinstance(conv, nn.Conv2d)
        or conv.groups > 1
        or conv.padding_mode != "zeros"
        or isinstance(conv.padding, str)
    ):
        graph.add_module("normalise", _Normalise(mean, std))
        with graph.graph.inserting_after(pixels):
            normalised = graph.graph.call_module("normalise", (pixels,))
        pixels.replace_all_uses_with(normalised, lambda user: user is not normalised)
        return 0, 0
    weight = conv.weight / std.view(1, -1, 1, 1)
    shift = -torch.einsum("oiyx,i->o", weight.double(), mean.double()).float()
    conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias + shift)
    conv.weight = nn.Parameter(weight)
    (y, x), conv.padding = conv.padding, (0, 0)
    return y, x


class _Normalise(nn.Module):
    """``(x - mean) / std`` of channels."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", (1 / std).view(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self.get_buffer("shift"), pixels, self.get_buffer("scale"))


def pool_before_relu(graph: fx.GraphModule) -> None:
    """Take the maximum first and cut off below zero then: of a quarter of the numbers."""
    for pool in list(graph.graph.nodes):
        if pool.op != "call_module" or not isinstance(
            graph.get_submodule(str(pool.target)), nn.MaxPool2d
        ):
            continue
        relu = pool.all_input_nodes[0]
        if (
            relu.op == "call_module"
            and isinstance(graph.get_submodule(str(relu.target)), nn.ReLU)
            and len(relu.users) == 1
        ):
            pool.replace_input_with(relu, relu.all_input_nodes[0])
            pool.replace_all_uses_with(relu)
            relu.args = (pool,)
            pool.append(relu)


def keep_drawn_of_last(
    graph: fx.GraphModule, layers: Sequence[str], drawn: Sequence[Sequence[int]]
) -> None:
    """Let the block that computes the last layer compute its drawn channels alone.

    Parameters
    ----------
    graph : GraphModule
        Returns a dict of layer name to feature map; changed in place.
    layers, drawn : sequence
        Names of the layers, and the channels drawn of each.
    """
    returned = next(node for node in graph.graph.nodes if node.op == "output")
    maps: dict[str, fx.Node] = dict(returned.args[0])
    place = {node: i for i, node in enumerate(graph.graph.nodes)}
    last = max(range(len(layers)), key=lambda i: place[maps[layers[i]]])
    name, keep = layers[last], torch.tensor(drawn[last])
    graph.register_buffer("_kept", keep)
    maps[name] = _select(graph, maps[name], keep)
    returned.args = (maps,)


def _select(graph: fx.GraphModule, node: fx.Node, keep: Tensor) -> fx.Node:
    """Node that yields the channels `keep` of `node`, pushed up through its block."""
    if len(node.users) == 1:
        if node.op == "call_module":
            module = graph.get_submodule(str(node.target))
            if isinstance(module, nn.Conv2d) and module.groups == 1:
                module.weight = nn.Parameter(module.weight[keep])
                if module.bias is not None:
                    module.bias = nn.Parameter(module.bias[keep])
                module.out_channels = len(keep)
                return node
            if isinstance(module, _ELEMENTWISE):
                node.args = (_select(graph, node.all_input_nodes[0], keep), *node.args[1:])
                return node
        if node.op == "call_function":
            if node.target is stochastic_depth:
                node.args = (_select(graph, node.all_input_nodes[0], keep), *node.args[1:])
                return node
            if getattr(node.target, "__name__", "") in ("add", "iadd"):
                node.args = tuple(
                    _select(graph, arg, keep) if isinstance(arg, fx.Node) else arg
                    for arg in node.args
                )
                return node
    with graph.graph.inserting_after(node):
        index = graph.graph.get_attr("_kept")
    with graph.graph.inserting_after(index):
        selected: fx.Node = graph.graph.call_function(torch.index_select, (node, 1, index))
    return selected
