"""The trunk: from uint8 images to a feature map for each level.

It ends at the last layer used. BatchNorm and the normalisation of the pixels are folded
into the convolutions, tensors are channels_last, and the last block computes only the drawn
channels. The results are the same up to float rounding: see ``rewrite.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from padim_dist.core.backbone import trace_trunk
from padim_dist.core.backbones import timm_models
from padim_dist.core.backbones.networks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_network,
    is_torchvisions,
)
from padim_dist.core.backbones.reduction import split_projections
from padim_dist.core.choices import Precision
from padim_dist.core.geometry import Grid
from padim_dist.core.rewrite import (
    fold_normalisation,
    fuse_relu,
    keep_drawn_of_last,
    note_shapes,
    split_norms,
    unshare,
)
from padim_dist.core.spec import TrunkSpec
from padim_dist.errors import WeightsError

PRECISIONS: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Types of the convolutions. ``tf32``: float32 with 10-bit mantissas in GPU products."""


def random_state(
    backbone: str, layers: Sequence[str], seed: int, size: Grid | None = None
) -> dict[str, Tensor]:
    """Return the state dict of a trunk with the network's random initialisation, seeded."""
    keys = _states(backbone, layers, size)[0].keys()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_network(backbone, size, device="cpu").module.state_dict()
    return {key: state[key] for key in keys}


def trunk_state(
    backbone: str, layers: Sequence[str], state: Mapping[str, Tensor], size: Grid | None = None
) -> dict[str, Tensor]:
    """Check a state dict against a trunk and return the entries that the trunk needs.

    One that does not fit a network of timm is adapted by timm: to another input size, or from
    other key names.

    Parameters
    ----------
    backbone, layers, size
        As for `trace_trunk`.
    state : mapping of str to Tensor
        Entries by the key names of the network: all of the trunk, others are ignored.

    Returns
    -------
    dict of str to Tensor
        Only the entries of the trunk.

    Raises
    ------
    WeightsError
        If keys are missing or unexpected, or shapes differ; the message lists them.
    """
    wanted, known = _states(backbone, layers, size)
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in known]
    misfits = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    findings = [
        f"{what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("shape", misfits))
        if keys
    ]
    if findings and backbone.startswith(timm_models.PREFIX) and size:
        adapted = timm_models.adapted(backbone, size, state)
        if adapted is not None:
            return {key: adapted[key] for key in wanted}
    if findings:
        library = "torchvision's" if is_torchvisions(backbone) else "its"
        raise WeightsError(
            f"the weights do not fit {backbone} up to {layers[-1]}: {'; '.join(findings)}. Give a "
            f"state dict of this backbone with {library} key names"
        )
    zero = torch.zeros((), dtype=torch.long)
    return {key: state.get(key, zero) for key in wanted}


def _states(
    backbone: str, layers: Sequence[str], size: Grid | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the state dicts of a trunk and of its network, on the meta device.

    Constants of a traced network are in its state dict, but in none of the network.
    """
    known = build_network(backbone, size).module.state_dict()
    trunk = trace_trunk(backbone, layers, size).state_dict()
    return {key: value for key, value in trunk.items() if key in known}, known


def _load(traced: fx.GraphModule, spec: TrunkSpec, state: Mapping[str, Tensor]) -> None:
    """Load a trunk's state dict; only constants of the traced network may be missing.

    Raises
    ------
    WeightsError
        If the network is not the one that the weights were kept for.
    """
    found = traced.load_state_dict(state, assign=True, strict=False)
    lacking = [*found.unexpected_keys]
    if found.missing_keys:
        known = build_network(spec.backbone, spec.size).module.state_dict()
        is_whole = is_torchvisions(spec.backbone)  # it has no constants, and is on the meta device
        lacking += [key for key in found.missing_keys if is_whole or key in known]
    if lacking:
        raise WeightsError(
            f"the weights of the model do not fit {spec.backbone} as it is here: "
            f"{_some(lacking)} are in one of them only. Install the version of its package that "
            "the model was fitted with, or fit another model"
        )


def _some(keys: Sequence[str]) -> str:
    return f"{', '.join(keys[:12])}{f' and {len(keys) - 12} more' if len(keys) > 12 else ''}"


def normalisation_of(spec: TrunkSpec) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation that pixels from 0 to 255 are normalised by, (3,)."""
    mean, std = (
        255.0 * torch.tensor(values)
        for values in (spec.mean or IMAGENET_MEAN, spec.std or IMAGENET_STD)
    )
    return mean, std


def folded_graph(
    spec: TrunkSpec, state: Mapping[str, Tensor], mean: Tensor, std: Tensor
) -> tuple[fx.GraphModule, Grid]:
    """Return a trunk with folded norms and normalisation, and the padding of its images.

    Parameters
    ----------
    spec : TrunkSpec
        Layers and drawn channels; the last layer computes only these.
    state : mapping of str to Tensor
        The trunk's state dict, without projections; it is not changed.
    mean, std : Tensor
        Of the pixels, in their own units, (3,); see `fold_normalisation`.

    Returns
    -------
    GraphModule
        Returns a dict of layer name to feature map (N, C, H, W), in float32.
    (int, int)
        Rows and columns of the value `mean` to pad images with, on each side.

    Raises
    ------
    WeightsError
        If the network is not the one that the weights were kept for.
    """
    # Networks of others compute constants that are in no state dict.
    device = "meta" if is_torchvisions(spec.backbone) else "cpu"
    traced = trace_trunk(spec.backbone, spec.layers, spec.size, device)
    # Copies: folding changes them, and the caller keeps the originals.
    _load(traced, spec, {k: v.detach().clone() for k, v in state.items()})
    unshare(traced)
    split_norms(traced)
    graph = fuse(traced, inplace=True, no_trace=True)
    assert isinstance(graph, fx.GraphModule)
    if spec.size is not None:
        note_shapes(graph, spec.size)
    keep_drawn_of_last(graph, spec.layers, spec.drawn)
    return graph, fold_normalisation(graph, mean, std)


class Trunk(nn.Module):
    """A trunk with folded layers and only the drawn channels.

    Parameters
    ----------
    spec : TrunkSpec
        Layers and drawn channels.
    state : mapping of str to Tensor
        The trunk's state dict (see `trunk_state`), and its projections (`make_projections`).
    precision : str
        Precision of the convolutions, one of `PRECISIONS`.
    """

    def __init__(
        self, spec: TrunkSpec, state: Mapping[str, Tensor], precision: Precision = "float32"
    ) -> None:
        super().__init__()
        own, projections = split_projections(state)
        mean, std = normalisation_of(spec)
        graph, self.padding = folded_graph(spec, own, mean, std)
        fuse_relu(graph)
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
        self.precision, dtype = precision, PRECISIONS[precision]
        self.graph = graph.to(dtype).requires_grad_(False)
        for module in graph.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
        self.eval()
        self.spec, self.dtype = spec, dtype
        self.register_buffer("border", mean.to(dtype).view(1, 3, 1, 1))
        for layer, drawn in enumerate(spec.drawn):
            self.register_buffer(f"drawn{layer}", torch.tensor(drawn))
        for layer, projection in enumerate(projections):
            self.register_buffer(f"projection{layer}", projection.detach().clone())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of a batch.

        Parameters
        ----------
        images : Tensor
            uint8, shape (N, 3, H, W), RGB; channels_last avoids a transposition.

        Returns
        -------
        list of Tensor
            float32 maps (N, d_a, H_a, W_a), finest level first, drawn or projected channels only.
        """
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        maps = self.graph(self._padded(images))
        out = []
        for layer in self.spec.levels:
            pixels = maps[self.spec.layers[layer]].permute(0, 2, 3, 1)  # their order in memory
            drawn = self.get_buffer(f"drawn{layer}")
            if pixels.shape[-1] != len(drawn):
                pixels = pixels.index_select(-1, drawn)
            pixels = pixels.float()
            if self.spec.projected:
                pixels = pixels @ self.get_buffer(f"projection{layer}")
            out.append(pixels.permute(0, 3, 1, 2))
        return out

    def _padded(self, images: Tensor) -> Tensor:
        """Return padded images in the trunk's dtype and memory format, in one pass."""
        (n, channels, height, width), (y, x) = images.shape, self.padding
        size = (n, channels, height + 2 * y, width + 2 * x)
        padded = torch.empty(
            size, dtype=self.dtype, device=images.device, memory_format=torch.channels_last
        )
        padded[..., y : y + height, x : x + width] = images
        border = self.get_buffer("border")
        padded[..., :y, :] = padded[..., y + height :, :] = border
        padded[..., :x] = padded[..., x + width :] = border
        return padded
