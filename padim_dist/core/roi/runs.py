"""Masks as run lengths: a mask of patches in a specification, as plain numbers."""

from __future__ import annotations

from functools import lru_cache
from itertools import cycle

import numpy as np
import numpy.typing as npt

from padim_dist.core.geometry import Grid
from padim_dist.errors import ConfigError

Runs = tuple[int, ...]
"""Lengths of runs of patches, row by row: outside, inside, outside, ...; the first may be 0."""
Mask = npt.NDArray[np.bool_]


def runs_of(mask: Mask) -> Runs:
    """Return a mask (h, w) as run lengths.

    Examples
    --------
    >>> runs_of(np.array([[True, False], [True, True]]))
    (0, 1, 1, 2)
    """
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(np.diff(np.concatenate([[0], edges, [mask.size]])).tolist())


@lru_cache(maxsize=64)
def mask_of(runs: Runs, grid: Grid) -> Mask:
    """Return the mask (h, w) of run lengths, read-only; cached.

    Raises
    ------
    ConfigError
        If they do not have as many patches as the grid.

    Examples
    --------
    >>> mask_of((0, 1, 1, 2), (2, 2)).tolist()
    [[True, False], [True, True]]
    """
    height, width = grid
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise ConfigError(
            f"a region of interest has runs of {sum(runs)} patches; the grid {height}x{width} has "
            f"{height * width}"
        )
    values = [inside for inside, _ in zip(cycle([False, True]), runs, strict=False)]
    mask = np.repeat(np.array(values, np.bool_), runs).reshape(grid)
    mask.flags.writeable = False
    return mask


def inside_patches(pixels: Mask, grid: Grid) -> Mask:
    """Return which patches (h, w) have half of their pixels, or more, inside a mask (H, W).

    Examples
    --------
    >>> inside_patches(np.array([[1, 1, 0, 0], [1, 0, 0, 1]], bool), (1, 2)).tolist()
    [[True, False]]
    """
    shares = pixels.astype(np.float64)
    for axis, patches in enumerate(grid):
        size = pixels.shape[axis]
        starts = np.arange(patches) * size // patches
        lengths = np.diff(np.append(starts, size))
        shape = (-1, 1) if axis == 0 else (1, -1)
        shares = np.add.reduceat(shares, starts, axis=axis) / lengths.reshape(shape)
    inside: Mask = shares >= 0.5
    return inside
