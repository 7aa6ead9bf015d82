"""Feature maps (N, C, H, W) of layers that give them in another form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from math import log

import torch
from torch import Tensor, fx, nn

from padim_dist.core.backbones.networks import Network
from padim_dist.core.geometry import Grid
from padim_dist.errors import ConfigError, first_line


class ChannelsFirst(nn.Module):
    """Feature maps (N, C, H, W) of maps with channels last, without a copy."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return (N, C, H, W) of (N, H, W, C)."""
        return maps.permute(0, 3, 1, 2)


class TokenGrid(nn.Module):
    """Feature maps (N, C, H, W) of the tokens of a vision transformer, without a copy.

    Parameters
    ----------
    prefix : int
        Tokens before those of the grid: class, distillation and register tokens.
    grid : (int, int)
        Rows and columns of the tokens.
    """

    def __init__(self, prefix: int, grid: Grid) -> None:
        super().__init__()
        self.prefix, self.grid = prefix, grid

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (N, C, H, W) of (N, prefix + H * W, C)."""
        maps: Tensor = tokens[:, self.prefix :].unflatten(1, self.grid)
        return maps.permute(0, 3, 1, 2)


def run_traced(
    traced: fx.GraphModule, size: Grid, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Return the outputs of the layers of a traced network for an image of this size.

    Raises
    ------
    ConfigError
        If it does not take one.
    """
    device = next(traced.parameters()).device
    try:
        with redirect_stderr(io.StringIO()):  # it prints its own code if that raises
            found: dict[str, Tensor] = traced(torch.empty(1, 3, *size, dtype=dtype, device=device))
    except Exception as error:  # the network's own code runs
        reason = first_line(error)
        raise ConfigError(f"model.crop {size[0]}x{size[1]} cannot be used: {reason}") from error
    return found


def make_maps(traced: fx.GraphModule, layers: Sequence[str], network: Network, size: Grid) -> None:
    """Let a traced network return feature maps (N, C, H, W), whatever form its layers have.

    Parameters
    ----------
    traced : GraphModule
        Returns a dict of layer name to output; changed in place.
    layers : sequence of str
        Names of the layers.
    network : Network
        The network that was traced.
    size : (int, int)
        An input size that it takes.

    Raises
    ------
    ConfigError
        If the output of a layer is no feature map.
    """
    try:
        found = run_traced(traced, size)
    except ConfigError:
        if network.tokens:
            _check_patches(size, network.tokens)
        raise
    returned = next(node for node in traced.graph.nodes if node.op == "output")
    maps: dict[str, fx.Node] = dict(returned.args[0])
    for i, name in enumerate(layers):
        form = _form_of(name, found[name], network, size)
        if form is not None:
            traced.add_module(f"_map{i}", form)
            with traced.graph.inserting_after(maps[name]):
                maps[name] = traced.graph.call_module(f"_map{i}", (maps[name],))
    returned.args = (maps,)
    traced.recompile()


def _form_of(name: str, output: object, network: Network, size: Grid) -> nn.Module | None:
    """Return the module that makes maps of the output of a layer; None if it is one."""
    if isinstance(output, Tensor) and output.ndim == 4:
        last = network.channels_last
        shape = tuple(output.shape)
        is_last = _is_channels_last(shape, size, bool(last)) if last is not False else last
        return ChannelsFirst() if is_last else None
    if isinstance(output, Tensor) and output.ndim == 3 and network.tokens:
        (rows, columns), tokens = network.tokens, output.shape[1]
        prefix = tokens - rows * columns
        known = getattr(network.module, "num_prefix_tokens", 0)
        if prefix in (0, known):
            _check_patches(size, network.tokens)
            return TokenGrid(prefix, network.tokens)
        raise ConfigError(
            f"layer {name!r} gives {tokens} tokens, which are not those of the grid {rows}x"
            f"{columns} of the first layer; choose an earlier layer, or a network whose layers "
            "give feature maps"
        )
    shown = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ConfigError(
        f"layer {name!r} gives shape {shown}, not a feature map (N, C, H, W) or tokens of a "
        "vision transformer of timm; choose a layer that does"
    )


def _is_channels_last(shape: Sequence[int], size: Grid, is_said: bool) -> bool:
    """Return whether a map is (N, H, W, C), by the strides of its axes.

    Strides of both axes are equal, up to the rounding of a side to a whole number of cells. If
    that leaves both readings, `is_said` decides: whether the network says that channels are last.

    Examples
    --------
    >>> _is_channels_last((1, 56, 56, 96), (224, 224), False)
    True
    >>> _is_channels_last((1, 64, 56, 112), (224, 448), True)
    False
    """
    _, a, b, c = shape
    first, last = (
        abs(log(size[0] * columns / (size[1] * rows))) for rows, columns in ((b, c), (a, b))
    )
    if is_said:
        return last <= first
    return last < first and first > 1 / b + 1 / c


def _check_patches(size: Grid, grid: Grid) -> None:
    """Raise ConfigError if patches do not cover an image: the rest would not be looked at."""
    if not (size[0] % grid[0] or size[1] % grid[1]):
        return
    near = []
    for side, patches in zip(size, grid, strict=True):
        patch = side // patches
        near.append(f"{patch * patches} or {patch * (patches + 1)}")
    raise ConfigError(
        f"model.crop {size[0]}x{size[1]} is no multiple of the patches of {size[0] // grid[0]}x"
        f"{size[1] // grid[1]} pixels, so its border would not be seen; sides that are: height "
        f"{near[0]}, width {near[1]}"
    )
