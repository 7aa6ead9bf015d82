"""Grey levels: from samples of any number of bits to 8 bits."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

_ROWS = 64
"""Rows that are computed together, in a wider type."""


@lru_cache(16)
def eight_bits(
    bits: int, camera: int | None = None, inverted: bool = False, cut: bool = False
) -> npt.NDArray[np.uint8]:
    """Return the 8-bit level of every value of a sample.

    Parameters
    ----------
    bits : int
        Bits of a sample in the file.
    camera : int, optional
        Bits that the camera delivers, if fewer: the level 2^camera - 1 becomes white.
    inverted : bool
        Whether zero is white.
    cut : bool
        Whether 16 bits become 8 by their high byte instead of by rounding.

    Examples
    --------
    >>> eight_bits(2).tolist()
    [0, 85, 170, 255]
    >>> eight_bits(16, camera=12)[[0, 2048, 4095, 65535]].tolist()
    [0, 128, 255, 255]
    """
    most = 2 ** (camera or bits) - 1
    values = np.minimum(np.arange(2**bits, dtype=np.uint32), most)
    if inverted:
        values = most - values
    is_cut = cut and camera is None and bits == 16
    levels = values >> 8 if is_cut else (values * 255 + most // 2) // most
    return np.asarray(levels, np.uint8)


def looked_up(table: npt.NDArray[np.uint8], values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return `table[values]`; NumPy makes 8 bytes of every value, so by a few rows at a time."""
    found = np.empty((*values.shape, *table.shape[1:]), np.uint8)
    for start in range(0, len(values), _ROWS):
        found[start : start + _ROWS] = np.take(table, values[start : start + _ROWS], axis=0)
    return found


def unmultiplied(
    values: npt.NDArray[np.uint8], opacity: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Divide colours (H, W, channels) by their opacity (H, W), as Pillow does."""
    found = np.empty_like(values)
    for start in range(0, len(values), _ROWS):
        rows = slice(start, start + _ROWS)
        alpha = np.maximum(opacity[rows], 1)[..., None].astype(np.uint32)
        found[rows] = np.minimum(values[rows].astype(np.uint32) * 255 // alpha, 255)
    return found


def three_channels(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a grey picture (H, W) as RGB (H, W, 3); four times as fast as `numpy.repeat`."""
    rgb = np.empty((*grey.shape, 3), np.uint8)
    for channel in range(3):
        rgb[..., channel] = grey
    return rgb
