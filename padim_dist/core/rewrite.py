"""Graph rewrites that make a trunk faster; its results stay the same up to float rounding.

Each changes a traced network in eval mode in place. The caller recompiles the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from padim_dist.core.backbones.maps import ChannelsFirst, TokenGrid
from padim_dist.vision import torchvision

M = TypeVar("M", bound=nn.Module)
_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Dropout, nn.Identity)


def fold_normalisation(graph: fx.GraphModule, mean: Tensor, std: Tensor) -> tuple[int, int]:
    """Fold the normalisation of pixels into the first convolution.

    The convolution pads with zeros *after* the normalisation, which are raw pixels of the
    value `mean`. So the caller has to pad the raw pixels with `mean`.

    Parameters
    ----------
    graph : GraphModule
        Network of pixels normalised by ``(x - mean) / std``; afterwards of raw pixels.
    mean, std : Tensor
        For each channel, in units of the raw pixels, shape (C,).

    Returns
    -------
    (int, int)
        Rows and columns of the value `mean` to pad on each side. (0, 0) if the network does
        not begin with a plain convolution; the normalisation is then a layer of its own.
    """
    pixels = next(node for node in graph.graph.nodes if node.op == "placeholder")
    first = next(iter(pixels.users))
    conv = _plain_conv(graph, first)
    if (
        len(pixels.users) > 1
        or conv is None
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
    """Normalisation of channels: ``(x - mean) / std``."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", (1 / std).view(1, -1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self.get_buffer("shift"), pixels, self.get_buffer("scale"))


def unshare(graph: fx.GraphModule) -> None:
    """Give every call of a layer a layer of its own, so that a rewrite of one changes no other."""
    called: set[str] = set()
    for node in graph.graph.nodes:
        if node.op == "call_module" and node.target in called:
            name = f"_{node.name}_again"
            graph.add_module(name, copy.deepcopy(graph.get_submodule(str(node.target))))
            node.target = name
        elif node.op == "call_module":
            called.add(str(node.target))


def split_norms(graph: fx.GraphModule) -> None:
    """Split timm's layers of a BatchNorm and an activation, so that the BatchNorm can be folded."""
    for node in list(graph.graph.nodes):
        norm = _layer(graph, node, nn.BatchNorm2d)
        if type(norm).__name__ != "BatchNormAct2d" or norm is None:
            continue
        plain = nn.BatchNorm2d(norm.num_features, norm.eps, device="meta").eval()
        plain.load_state_dict(
            {k: v for k, v in norm.state_dict().items() if k in plain.state_dict()}, assign=True
        )
        graph.add_module(f"_norm_{node.name}", plain)
        graph.add_module(f"_act_{node.name}", norm.get_submodule("act"))
        with graph.graph.inserting_before(node):
            normed = graph.graph.call_module(f"_norm_{node.name}", node.args)
            acted = graph.graph.call_module(f"_act_{node.name}", (normed,))
        node.replace_all_uses_with(acted)
        graph.graph.erase_node(node)


def note_shapes(graph: fx.GraphModule, size: tuple[int, int]) -> None:
    """Note the shape of every node, for an input of a size (height, width), without computing."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        # Of two images, so that what is the same for all of a batch has another shape.
        ShapeProp(graph).propagate(torch.empty(2, 3, *size))


def fuse_relu(graph: fx.GraphModule) -> None:
    """Fuse convolutions with their ReLU, the addition before it and the max pooling after it."""
    for relu in list(graph.graph.nodes):
        if _layer(graph, relu, nn.ReLU) is None:
            continue
        node, others = relu.all_input_nodes[0], []
        if _is_addition(node) and len(node.users) == 1 and _has_equal_sides(node):
            first, second = node.all_input_nodes
            node, other = (second, first) if _biased_conv(graph, first) is None else (first, second)
            others = [other]
        conv = _biased_conv(graph, node)
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
    """``relu(conv(x) + other)``, then max pooling if there is one.

    A GPU runs all but the pooling in one kernel; PyTorch would add the bias in a second one,
    which takes as long as the convolution. A CPU applies the ReLU after the pooling, to a
    quarter of the numbers.

    Parameters
    ----------
    conv : Conv2d
        Convolution with a bias.
    pool : MaxPool2d, optional
        Pooling after the ReLU; only without `other`.
    """

    def __init__(self, conv: nn.Conv2d, pool: nn.MaxPool2d | None = None) -> None:
        super().__init__()
        self.conv, self.pool = conv, pool

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return feature maps (N, C, H, W) of `x`; `other` has the shape of the convolution."""
        conv, pool = self.conv, self.pool
        if x.is_cuda:
            weight, bias = conv.weight, conv.bias
            options: Any = (bias, conv.stride, conv.padding, conv.dilation, conv.groups)
            if other is not None:
                return torch.cudnn_convolution_add_relu(x, weight, other, 1.0, *options)
            maps = torch.cudnn_convolution_relu(x, weight, *options)
            return maps if pool is None else pool(maps)
        maps = conv(x)
        if other is not None:
            maps += other
        return functional.relu_(maps if pool is None else pool(maps))


def keep_drawn_of_last(
    graph: fx.GraphModule, layers: Sequence[str], drawn: Sequence[Sequence[int]]
) -> None:
    """Compute only the drawn channels in the block of the last layer.

    Parameters
    ----------
    graph : GraphModule
        Returns a dict of layer name to feature map; changed in place.
    layers, drawn : sequence
        Names of the layers, and the drawn channels of each.
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
    """Return a node with only the channels `keep` of `node`, selected early in its block."""
    if len(node.users) == 1:
        module = _layer(graph, node, nn.Module)
        if isinstance(module, ChannelsFirst | TokenGrid):
            (source,) = node.all_input_nodes
            node.args = (_index(graph, source, -1),)
            return node
        if type(module) is nn.Conv2d and module.groups == 1:
            module.weight = nn.Parameter(module.weight[keep])
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias[keep])
            module.out_channels = len(keep)
            return node
        elementwise = (
            isinstance(module, _ELEMENTWISE) or node.target is torchvision.ops.stochastic_depth
        )
        if elementwise or (_is_addition(node) and _has_equal_sides(node)):
            node.args = tuple(
                _select(graph, arg, keep) if isinstance(arg, fx.Node) else arg for arg in node.args
            )
            return node
    return _index(graph, node, 1)


def _index(graph: fx.GraphModule, node: fx.Node, axis: int) -> fx.Node:
    """Return a node with only the channels `_kept` of `node`, which are on this axis."""
    with graph.graph.inserting_after(node):
        index = graph.graph.get_attr("_kept")
    with graph.graph.inserting_after(index):
        selected: fx.Node = graph.graph.call_function(torch.index_select, (node, axis, index))
    selected.meta = dict(node.meta)  # its shape before, as of a convolution with fewer channels
    return selected


def _layer(graph: fx.GraphModule, node: fx.Node, kind: type[M]) -> M | None:
    """Return the layer that a node calls, if it is of this kind."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, kind) else None


def _plain_conv(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the convolution that a node calls; None if it is none, or pads or scales by itself.

    timm has such classes derived from `Conv2d`, e.g. ``Conv2dSame``.
    """
    conv = _layer(graph, node, nn.Conv2d)
    return conv if type(conv) is nn.Conv2d else None


def _biased_conv(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the plain convolution with a bias that a node calls, if it has a single user."""
    conv = _plain_conv(graph, node)
    if conv is None or conv.bias is None or len(node.users) > 1:
        return None
    return conv if conv.padding_mode == "zeros" and isinstance(conv.padding, tuple) else None


def _is_addition(node: fx.Node) -> bool:
    """Return whether a node adds two others."""
    name = getattr(node.target, "__name__", "")
    return node.op == "call_function" and name in ("add", "iadd") and len(node.all_input_nodes) == 2


def _has_equal_sides(node: fx.Node) -> bool:
    """Return whether both sides of an addition have one shape; without notes they are taken to."""
    shapes = [getattr(one.meta.get("tensor_meta"), "shape", None) for one in node.all_input_nodes]
    return shapes[0] == shapes[1] and all(one.op != "get_attr" for one in node.all_input_nodes)
