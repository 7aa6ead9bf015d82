"""The reference of a camera: the median of its pictures, once they are aligned with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from padim_dist.core.align.reference import Reference, same_shape
from padim_dist.core.align.search import Aligner
from padim_dist.core.align.warp import warp_levels
from padim_dist.core.geometry import Grid

_ROUNDS = 2
"""Times that pictures are aligned with their median. The first median is blurred."""


def median_reference(
    pictures: Sequence[tuple[Tensor, Grid]], resize: Grid, shift: float, rotate: float
) -> Reference:
    """Return the median of pictures.

    Pictures of another shape than most of them do not count, and pictures that cannot be aligned
    with the others only in the first, blurred median.

    Parameters
    ----------
    pictures : sequence of (Tensor, (int, int))
        Each in grey on the same grid, float32 (`padim_dist.core.align.reference.grey`), with the
        height and width of its original; at least one.
    resize : (int, int)
        Height and width of the resized pictures.
    shift, rotate : float
        Bounds; see `Aligner`.
    """
    ((size, _),) = Counter(own for _, own in pictures).most_common(1)
    known = [(levels, own) for levels, own in pictures if same_shape(own, size)]
    reference = _median([levels for levels, _ in known], size)
    for _ in range(_ROUNDS):
        aligner = Aligner(reference, shift, rotate)
        found = ((levels, own, aligner.find(levels, own, resize)) for levels, own in known)
        moved = [
            warp_levels(levels, resize, own, alignment.motion)
            for levels, own, alignment in found
            if alignment.motion
        ]
        if not moved:
            break
        reference = _median(moved, size)
    return reference


def _median(pictures: Sequence[Tensor], size: Grid) -> Reference:
    return Reference.of(torch.stack([*pictures]).quantile(0.5, dim=0).numpy(), size)
