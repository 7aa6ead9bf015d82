"""Shape of a feature pyramid and the nested order of its positions.

PaDiM (arXiv 2011.08785, section III-A) repeats coarse vectors and concatenates all maps.
`PyramidShape` keeps each level at its own resolution instead. The positions of a level are
sorted so that all positions inside a coarse cell are neighbours. So a level views as rows
of any coarser level without a copy: see ``docs/mathematics.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING

from padim_dist.core.geometry import Grid
from padim_dist.core.roi.runs import Mask, Runs, mask_of
from padim_dist.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class PyramidShape:
    """Grids and channels of a pyramid, finest level first.

    Parameters
    ----------
    grids : tuple of (int, int)
        (height, width) in patches of each level, finest first.
    channels : tuple of int
        Channels d_a of each level.
    paper_order : tuple of int, optional
        Permutation from the channels of all levels (finest level first) to the paper's
        order, which is that of the layers. The identity if layers go from fine to coarse.
    inside : tuple of int, optional
        Run lengths (`padim_dist.core.roi.runs`) of the patches of the finest grid that are judged;
        None: all. Only coarsest cells with such a patch are kept, and have positions.

    Raises
    ------
    ConfigError
        If a grid does not divide the next finer one by whole ratios, a level has
        no channels, or no patch is judged.

    Examples
    --------
    >>> shape = PyramidShape(grids=((4, 4), (2, 2)), channels=(3, 5))
    >>> shape.positions, shape.ratio(0, 1), shape.depth
    ((16, 4), 4, 8)
    >>> PyramidShape(shape.grids, shape.channels, inside=(0, 8, 8)).positions
    (8, 2)
    """

    grids: tuple[Grid, ...]
    channels: tuple[int, ...]
    paper_order: tuple[int, ...] = ()
    inside: Runs | None = None

    def __post_init__(self) -> None:
        if not self.grids or len(self.grids) != len(self.channels):
            raise ConfigError(
                f"a pyramid needs one channel count per grid; found {len(self.grids)} grids "
                f"and {len(self.channels)} channel counts"
            )
        for fine, coarse in zip(self.grids, self.grids[1:], strict=False):
            if fine[0] % coarse[0] or fine[1] % coarse[1]:
                raise ConfigError(
                    f"grid {coarse[0]}x{coarse[1]} does not divide grid {fine[0]}x{fine[1]} by "
                    "whole ratios; choose another input size or other layers"
                )
        if min(self.channels) < 1:
            raise ConfigError(
                f"every level needs at least one channel; found {self.channels} (finest first)"
            )
        if not self.paper_order:
            object.__setattr__(self, "paper_order", tuple(range(sum(self.channels))))
        if self.mask is not None and not self.mask.any():
            raise ConfigError("a region of interest has no patch inside")

    @property
    def levels(self) -> int:
        """Number of levels L."""
        return len(self.grids)

    @property
    def depth(self) -> int:
        """Length d of the paper's embedding: the channels of all levels."""
        return sum(self.channels)

    @property
    def mask(self) -> Mask | None:
        """The patches of the finest grid that are judged, (h, w); None: all."""
        return None if self.inside is None else mask_of(self.inside, self.grids[0])

    @property
    def share(self) -> float:
        """Share of the patches of the finest grid that are judged."""
        return 1.0 if self.mask is None else float(self.mask.mean())

    @lru_cache(maxsize=64)  # noqa: B019
    def _kept(self) -> list[int] | None:
        """Cells of the coarsest grid, row by row, with a patch that is judged; None: all."""
        if self.mask is None:
            return None
        (height, width), (rows, columns) = self.grids[0], self.grids[-1]
        cells = self.mask.reshape(rows, height // rows, columns, width // columns)
        found: list[int] = cells.any(axis=(1, 3)).ravel().nonzero()[0].tolist()
        return found

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """Number of positions G_a of each level."""
        whole = tuple(h * w for h, w in self.grids)
        kept = self._kept()
        return whole if kept is None else tuple(len(kept) * (n // whole[-1]) for n in whole)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size G_a * d_a of each level of an image's embedding."""
        return tuple(g * d for g, d in zip(self.positions, self.channels, strict=True))

    @property
    def cells(self) -> int:
        """Number of kept cells of the coarsest grid, which bands divide."""
        return self.positions[-1]

    def ratio(self, fine: int, coarse: int) -> int:
        """Return the number of positions of level `fine` in a position of level `coarse`."""
        return self.positions[fine] // self.positions[coarse]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (a, b) of levels with a <= b, in a fixed order."""
        return tuple((a, b) for a in range(self.levels) for b in range(a, self.levels))

    def mean_shape(self, a: int) -> tuple[int, int]:
        """Return the shape (G_a, d_a) of the mean at level a."""
        return self.positions[a], self.channels[a]

    def block_shape(self, a: int, b: int) -> tuple[int, int, int]:
        """Return the shape (G_b, r_ab * d_a, d_b) of the block between levels a and b."""
        return self.positions[b], self.ratio(a, b) * self.channels[a], self.channels[b]

    @property
    def numbers(self) -> int:
        """Size of the mean and all blocks together, as in `Gaussian` and `Moments`."""
        means = sum(prod(self.mean_shape(a)) for a in range(self.levels))
        return means + sum(prod(self.block_shape(a, b)) for a, b in self.pairs)

    @lru_cache(maxsize=64)  # noqa: B019
    def _order(self, level: int, device: torch.device | str) -> Tensor:
        """Return the row-major positions of a level in nested order, shape (G_a,)."""
        import torch  # only here: commands without computation read shapes without torch

        height, width = self.grids[level]
        # Axis sizes from the coarsest grid to this level: cell, position in the cell, ...
        chain = [self.grids[-1]]
        for b in range(self.levels - 1, level, -1):
            (h, w), coarse = self.grids[b - 1], self.grids[b]
            chain.append((h // coarse[0], w // coarse[1]))
        steps, (rows, columns) = len(chain), zip(*chain, strict=True)
        grid = torch.arange(height * width).reshape(*rows, *columns)
        interleaved = [axis for step in range(steps) for axis in (step, steps + step)]
        order = grid.permute(interleaved).reshape(-1)
        if (kept := self._kept()) is not None:  # cells are numbered row by row
            order = order.view(prod(self.grids[-1]), -1)[kept].reshape(-1)
        return order.to(device)

    @lru_cache(maxsize=64)  # noqa: B019
    def _rank(self, level: int, device: torch.device | str) -> Tensor:
        """Return the nested positions of a level in row-major order, (H_a * W_a,).

        Positions that are not judged have the number G_a.
        """
        import torch

        order = self._order(level, "cpu")
        if self.mask is None:
            return order.argsort().to(device)
        height, width = self.grids[level]
        rank = torch.full((height * width,), len(order))
        rank[order] = torch.arange(len(order))
        if level == 0:
            rank[torch.tensor(~self.mask.ravel())] = len(order)
        return rank.to(device)

    @lru_cache(maxsize=8)  # noqa: B019
    def judged(self, device: torch.device | str = "cpu") -> Tensor | None:
        """Return which kept patches of the finest level are judged, bool, (G_0,); None: all.

        They are in nested order. A kept cell at the border has patches that are not judged.
        """
        import torch

        if self.mask is None:
            return None
        return torch.tensor(self.mask.ravel())[self._order(0, "cpu")].to(device)

    def nest(self, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps (N, d_a, H_a, W_a) of each level, finest first, in nested order.

        Positions of cells that are not kept are left out.

        Returns
        -------
        list of Tensor
            Contiguous level matrices x[a] of shape (G_a, d_a, N).
        """
        nested = []
        for level, maps in enumerate(feature_maps):
            flat = maps.permute(0, 2, 3, 1).flatten(1, 2)  # free for channels_last
            nested.append(flat.permute(1, 2, 0).index_select(0, self._order(level, maps.device)))
        return nested

    def unnest(self, values: Tensor, level: int = 0) -> Tensor:
        """Return the maps (N, H_a, W_a) of values (G_a, N) of a level in nested order.

        They are NaN where nothing is judged.
        """
        import torch

        rank = self._rank(level, values.device)
        if self.mask is not None:
            values = torch.cat([values, values.new_full((1, values.shape[1]), float("nan"))])
        return values.index_select(0, rank).T.reshape(-1, *self.grids[level])

    def index(self, level: int, y: int, x: int) -> int:
        """Return the nested index at `level` of the patch (y, x) of the finest grid.

        Raises
        ------
        IndexError
            If it is outside the grid, or outside the region of interest.
        """
        height, width = self.grids[0]
        if not (0 <= y < height and 0 <= x < width):
            raise IndexError(f"patch ({y}, {x}) is outside the patch grid {height}x{width}")
        if self.mask is not None and not self.mask[y, x]:
            raise IndexError(f"patch ({y}, {x}) is outside the region of interest")
        h, w = self.grids[level]
        return int(self._rank(level, "cpu")[(y * h // height) * w + x * w // width])
