"""Fewer channels: a random draw (section III-B), or a random projection of each layer.

A projection multiplies the C channels of a layer by a random semi-orthogonal matrix (C, d), as Kim
et al. do (2021, "Semi-orthogonal embedding for efficient unsupervised anomaly segmentation"), but
each layer by one of its own. So no layers are mixed, and the pyramid stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from padim_dist.errors import ConfigError

Channels = int | Sequence[int] | None
"""Channels to keep: of all layers together, or of each layer; None: all."""
_KEY = "projection.{}"


def draw_channels(counts: Sequence[int], channels: Channels, seed: int) -> list[tuple[int, ...]]:
    """Draw channels at random from the concatenated layers (section III-B), or from each layer.

    Parameters
    ----------
    counts : sequence of int
        Channels of each layer.
    channels : int, sequence of int or None
        Number of channels to draw in all, or from each layer; None keeps all.
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
    generator = torch.Generator().manual_seed(seed)
    if isinstance(channels, Sequence):
        _check_each(counts, channels)
        orders = [torch.randperm(count, generator=generator).tolist() for count in counts]
        return [tuple(sorted(order[:n])) for order, n in zip(orders, channels, strict=True)]
    total = _check_all(counts, channels)
    chosen = sorted(torch.randperm(sum(counts), generator=generator)[:total].tolist())
    drawn, start = [], 0
    for layer, count in enumerate(counts):
        drawn.append(tuple(c - start for c in chosen if start <= c < start + count))
        start += count
        if not drawn[-1]:
            raise ConfigError(
                f"model.channels {total} with seed {seed} leaves layer {layer + 1} of "
                f"{len(counts)} without any channel; raise model.channels or drop the layer"
            )
    return drawn


def share_channels(counts: Sequence[int], channels: Channels) -> tuple[int, ...]:
    """Return how many dimensions the projection of each layer has: in proportion to its channels.

    Parameters
    ----------
    counts : sequence of int
        Channels of each layer.
    channels : int, sequence of int or None
        Dimensions in all, or of each layer; None: as many as there are channels.

    Raises
    ------
    ConfigError
        If there are fewer than `channels`, or a layer is left without any.

    Examples
    --------
    >>> share_channels((64, 128, 256), 100), share_channels((64, 128, 256), (10, 20, 30))
    ((14, 29, 57), (10, 20, 30))
    """
    if isinstance(channels, Sequence):
        _check_each(counts, channels)
        return tuple(channels)
    total, every = _check_all(counts, channels), sum(counts)
    # Whole shares first; what is left goes to the largest remainders.
    shares = [total * count // every for count in counts]
    rests = sorted(range(len(counts)), key=lambda i: -(total * counts[i] % every))
    for layer in rests[: total - sum(shares)]:
        shares[layer] += 1
    if 0 in shares:
        raise ConfigError(
            f"model.channels {total} leaves layer {shares.index(0) + 1} of {len(counts)} without "
            "any dimension; raise model.channels or give one number for each layer"
        )
    return tuple(shares)


def make_projections(counts: Sequence[int], sizes: Sequence[int], seed: int) -> dict[str, Tensor]:
    """Return a random matrix with orthonormal columns for each layer, by its key in a state dict.

    They are drawn uniformly: by the QR decomposition of normal numbers, with a positive diagonal.
    They are kept with the weights, so they are made once, whatever other libraries would make.

    Parameters
    ----------
    counts, sizes : sequence of int
        Channels C and dimensions d of each layer.
    seed : int
        Seed of the matrices.

    Returns
    -------
    dict of str to Tensor
        float32, shape (C, d).
    """
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for layer, (count, size) in enumerate(zip(counts, sizes, strict=True)):
        normal = torch.randn(count, size, generator=generator, dtype=torch.float64)
        columns, triangle = torch.linalg.qr(normal)
        made[_KEY.format(layer)] = (columns * triangle.diagonal().sign()).float()
    return made


def split_projections(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the entries of a network's own state dict, and the projections in order of layers."""
    keys = [key for layer in range(len(state)) if (key := _KEY.format(layer)) in state]
    own = {key: value for key, value in state.items() if key not in keys}
    return own, [state[key] for key in keys]


def _check_all(counts: Sequence[int], channels: int | None) -> int:
    total = sum(counts)
    if channels is None:
        return total
    if channels > total:
        raise ConfigError(
            f"model.channels asks for {channels}, but the layers have {total} in all "
            f"({' + '.join(map(str, counts))}); ask for at most {total}, or null for all"
        )
    return channels


def _check_each(counts: Sequence[int], channels: Sequence[int]) -> None:
    found = f"the layers have {', '.join(map(str, counts))} channels"
    if len(channels) != len(counts):
        raise ConfigError(
            f"model.channels has {len(channels)} numbers for {len(counts)} layers ({found}); give "
            "one for each, in the order of model.layers"
        )
    if any(n > count for n, count in zip(channels, counts, strict=True)):
        raise ConfigError(
            f"model.channels asks for {', '.join(map(str, channels))}, but {found}; ask for at "
            "most as many of each"
        )
