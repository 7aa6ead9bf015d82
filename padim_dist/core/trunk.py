"""The trunk: uint8 images in, one feature map a level out.

It ends at the last layer used, has BatchNorm folded into the convolutions, keeps
tensors channels_last, and computes in its last block only the channels that were
drawn. All of it is exact up to float rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torchvision.models import get_model
from torchvision.ops import stochastic_depth

from padim_dist.core.backbone import TrunkSpec, trace_trunk
from padim_dist.errors import WeightsError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def random_state(backbone: str, layers: Sequence[str], seed: int) -> dict[str, Tensor]:
    """State dict of a trunk with torchvision's own random initialisation, seeded."""
    keys = trace_trunk(backbone, layers).state_dict().keys()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        state = get_model(backbone, weights=None).state_dict()
    return {key: state[key] for key in keys}


def trunk_state(
    backbone: str, layers: Sequence[str], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Check a state dict against a trunk and keep what the trunk needs.

    Parameters
    ----------
    backbone, layers
        As for `trace_trunk`.
    state : mapping of str to Tensor
        Torchvision's key names. Has to cover the trunk; keys of the rest of the model
        are left out.

    Returns
    -------
    dict of str to Tensor
        The trunk's own entries.

    Raises
    ------
    WeightsError
        Lists what is missing, unexpected, or of another shape.
    """
    wanted = trace_trunk(backbone, layers).state_dict()
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = get_model(backbone, weights=None).state_dict().keys()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in state and key not in counters]
    unexpected = [key for key in state if key not in known]
    misfits = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    findings = [
        f"{what}: {', '.join(keys[:12])}{f' and {len(keys) - 12} more' if len(keys) > 12 else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("shape", misfits))
        if keys
    ]
    if findings:
        raise WeightsError(
            f"the weights do not fit {backbone} up to {layers[-1]}: {'; '.join(findings)}. Give a "
            "state dict of this backbone with torchvision's key names"
        )
    zero = torch.zeros((), dtype=torch.long)
    return {key: state.get(key, zero) for key in wanted}


class Trunk(nn.Module):
    """A folded, pruned trunk.

    Parameters
    ----------
    spec : TrunkSpec
        Layers and drawn channels.
    state : mapping of str to Tensor
        The trunk's state dict (see `trunk_state`).
    dtype : torch.dtype
        Of the convolutions: float32 or bfloat16.
    """

    def __init__(
        self, spec: TrunkSpec, state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        traced = trace_trunk(spec.backbone, spec.layers)
        # Copies, since folding writes into them and the caller keeps the originals.
        traced.load_state_dict({k: v.detach().clone() for k, v in state.items()}, assign=True)
        graph = fuse(traced, inplace=True, no_trace=True)
        assert isinstance(graph, fx.GraphModule)
        _keep_drawn_of_last(graph, spec)
        self.graph = graph.to(dtype).to(memory_format=torch.channels_last).requires_grad_(False)
        self.eval()
        self.spec = spec
        self.dtype = dtype
        scale = 1.0 / (255.0 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        shift = -torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255.0 * scale
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        for layer, drawn in enumerate(spec.drawn):
            self.register_buffer(f"drawn{layer}", torch.tensor(drawn))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of a batch.

        Parameters
        ----------
        images : Tensor
            uint8, shape (N, 3, H, W), RGB.

        Returns
        -------
        list of Tensor
            float32 maps (N, d_a, H_a, W_a), finest level first, drawn channels only.
        """
        pixels = images.float().contiguous(memory_format=torch.channels_last)
        pixels = torch.addcmul(self.get_buffer("shift"), pixels, self.get_buffer("scale"))
        maps = self.graph(pixels.to(self.dtype))
        out = []
        for layer in self.spec.levels:
            feature_map = maps[self.spec.layers[layer]]
            drawn = self.get_buffer(f"drawn{layer}")
            if feature_map.shape[1] != len(drawn):
                feature_map = feature_map.index_select(1, drawn)
            out.append(feature_map.float())
        return out


def _keep_drawn_of_last(graph: fx.GraphModule, spec: TrunkSpec) -> None:
    """Let the block that computes the last layer compute its drawn channels alone."""
    returned = next(node for node in graph.graph.nodes if node.op == "output")
    maps: dict[str, fx.Node] = dict(returned.args[0])
    place = {node: i for i, node in enumerate(graph.graph.nodes)}
    last = max(range(len(spec.layers)), key=lambda i: place[maps[spec.layers[i]]])
    name = spec.layers[last]
    keep = torch.tensor(spec.drawn[last])
    graph.register_buffer("_kept", keep)
    maps[name] = _select(graph, maps[name], keep)
    returned.args = (maps,)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Dropout, nn.Identity)


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
