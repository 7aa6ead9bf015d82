"""Rewrites of a trunk's graph that change its cost and not its numbers, up to float rounding.

Each works in place on a traced network in eval mode; whoever calls them recompiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torchvision.ops import stochastic_depth

M = TypeVar("M", bound=nn.Module)
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


def fuse_relu(graph: fx.GraphModule) -> None:
    """Make a convolution, what is added to it, its ReLU and a pooling after that one layer."""
    for relu in list(graph.graph.nodes):
        if _layer(graph, relu, nn.ReLU) is None:
            continue
        node, others = relu.all_input_nodes[0], []
        if _is_addition(node) and len(node.users) == 1:
            first, second = node.all_input_nodes
            node, other = (second, first) if _biased(graph, first) is None else (first, second)
            others = [other]
        conv = _biased(graph, node)
        if conv is None:
            continue
        last, pool = relu, None
        if not others and len(relu.users) == 1:
            (after,) = relu.users
            pool = _layer(graph, after, nn.MaxPool2d)
            last = after if pool else relu
        name = f"fused_{relu.name}"
        graph.add_module(name, ConvRelu(conv, pool))
        with graph.graph.inserting_before(last):
            fused = graph.graph.call_module(name, (node.all_input_nodes[0], *others))
        last.replace_all_uses_with(fused)


class ConvRelu(nn.Module):
    """``relu(conv(x) + other)``, and the maximum of its pools where there are any.

    On a GPU it is one kernel, and the pooling another: PyTorch adds a bias in one of its own,
    which takes as long as the convolution itself. On a processor the ReLU comes last, for a
    quarter of the numbers.

    Parameters
    ----------
    conv : Conv2d
        With a bias.
    pool : MaxPool2d, optional
        After the ReLU, where nothing is added.
    """

    def __init__(self, conv: nn.Conv2d, pool: nn.MaxPool2d | None = None) -> None:
        super().__init__()
        self.conv, self.pool = conv, pool

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Feature maps, also of what is added: (N, C, H, W)."""
        conv, pool = self.conv, self.pool
        if x.is_cuda:
            weight, bias = conv.weight, conv.bias
            how: Any = (bias, conv.stride, conv.padding, conv.dilation, conv.groups)
            if other is not None:
                return torch.cudnn_convolution_add_relu(x, weight, other, 1.0, *how)
            maps = torch.cudnn_convolution_relu(x, weight, *how)
            return maps if pool is None else pool(maps)
        maps = conv(x)
        if other is not None:
            maps += other
        return functional.relu_(maps if pool is None else pool(maps))


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
            if _is_addition(node):
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


def _layer(graph: fx.GraphModule, node: fx.Node, kind: type[M]) -> M | None:
    """The layer that a node calls, if it is of this kind."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, kind) else None


def _biased(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """The plain convolution with a bias that a node calls, if one other node alone uses it."""
    conv = _layer(graph, node, nn.Conv2d)
    if conv is None or conv.bias is None or len(node.users) > 1:
        return None
    return conv if conv.padding_mode == "zeros" and isinstance(conv.padding, tuple) else None


def _is_addition(node: fx.Node) -> bool:
    """Whether a node adds two others."""
    name = getattr(node.target, "__name__", "")
    return node.op == "call_function" and name in ("add", "iadd") and len(node.all_input_nodes) == 2
