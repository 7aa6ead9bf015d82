"""The sample of a part in Zarr: embeddings of some of its images.

A model is calibrated with them: no image is read a second time, and a window of nights can be
calibrated after its images are gone. If all images are in it, the moments of the part are made
from them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from padim_dist.core.pyramid import PyramidShape
from padim_dist.errors import DamagedFileError
from padim_dist.store.arrays import (
    child_array,
    create_uncompressed,
    open_zarr_group,
    put_attributes,
    read_attributes,
    reports_array_damage,
)
from padim_dist.store.parts.receipt import part_advice
from padim_dist.store.workspace import Workspace

_NAME = "embeddings"
_IN_CHUNK = 16
WRITTEN_TOGETHER = 32
"""Images in a Zarr shard, which is written at once."""


def images_on_disk(images: int) -> int:
    """Return the images that a sample of some images takes room for: whole chunks.

    Examples
    --------
    >>> images_on_disk(3), images_on_disk(53)
    (3, 64)
    """
    return images if images <= _IN_CHUNK else -(-images // _IN_CHUNK) * _IN_CHUNK


class SampleWriter:
    """Writes embeddings of some images of a part, 32 images at a time, over what is there.

    Parameters
    ----------
    workspace, path : Workspace, str
        Where the part is.
    shape : PyramidShape
        Shape of an embedding.
    most : int
        Images at most; no file is written if it is 0, or without any image.
    band_cells : int
        Coarsest cells in a chunk.

    Attributes
    ----------
    image_ids : list of str
        Ids of the images.
    is_finite : bool
        Whether all numbers that were written are finite.
    """

    def __init__(
        self, workspace: Workspace, path: str, shape: PyramidShape, most: int, band_cells: int
    ) -> None:
        self._workspace, self._path, self._shape = workspace, path, shape
        self._most, self._band_cells = most, band_cells
        self._waiting = torch.empty(0)
        self._group: Any = None
        self._array: Any = None
        self.image_ids: list[str] = []
        self.is_finite = True

    def add(self, image_ids: Sequence[str], levels: Sequence[Tensor], chosen: list[int]) -> None:
        """Add the chosen images of a batch with level matrices x[a] (G_a, d_a, N)."""
        if not chosen:
            return
        if len(chosen) < levels[0].shape[-1]:
            places = torch.tensor(chosen, device=levels[0].device)
            levels = [level.index_select(-1, places) for level in levels]
        cells = self._shape.cells
        rows = torch.cat([level.reshape(cells, -1, len(chosen)) for level in levels], dim=1)
        rows = rows.permute(2, 0, 1)
        if self._array is None:
            self._create(rows)
        while len(rows):
            first = len(self.image_ids) % WRITTEN_TOGETHER
            some = rows[: WRITTEN_TOGETHER - first]
            self._waiting[first : first + len(some)] = some
            self.image_ids += [image_ids[i] for i in chosen[: len(some)]]
            rows, chosen = rows[len(some) :], chosen[len(some) :]
            if first + len(some) == WRITTEN_TOGETHER:
                self._write(WRITTEN_TOGETHER)

    def close(self) -> None:
        """Write the last images, and the ids of all."""
        if self._array is None:
            return
        if rest := len(self.image_ids) % WRITTEN_TOGETHER:
            self._write(rest)
        put_attributes(self._group, {"image_ids": self.image_ids})

    def _create(self, rows: Tensor) -> None:
        root = open_zarr_group(self._workspace, self._path, "w")
        put_attributes(root, {})
        cells, numbers = rows.shape[1:]
        band, most = min(self._band_cells, cells), self._most
        chunk = (min(most, _IN_CHUNK), band, numbers)
        shard = (
            chunk[0] if most <= _IN_CHUNK else WRITTEN_TOGETHER,
            -(-cells // band) * band,
            numbers,
        )
        self._group = root.create_group("sample")
        size = (most, cells, numbers)
        self._array = create_uncompressed(self._group, _NAME, size, "float32", chunk, shard)
        self._waiting = torch.empty((WRITTEN_TOGETHER, cells, numbers))

    def _write(self, images: int) -> None:
        some = self._waiting[:images]
        self.is_finite &= bool(some.sum(dtype=torch.float64).isfinite())
        stop = len(self.image_ids)
        self._array[stop - images : stop] = some.numpy()


class SampleReader:
    """The sample of a part, read a few images at a time.

    Attributes
    ----------
    file, shape : str, PyramidShape
        URL of the sample, and shape of an embedding.
    image_ids : list of str
        Ids of its images; none if the part has no sample.
    """

    def __init__(self, workspace: Workspace, path: str, shape: PyramidShape) -> None:
        self.file = workspace.at(f"{path}/sample")
        self._damage = self.file, part_advice(workspace, path)
        self._arrays: list[Any] = []
        self.shape = shape
        self.image_ids: list[str] = []
        with reports_array_damage(*self._damage):
            open_zarr_group(workspace, path, "r")
            if workspace.folder.exists(f"{path}/sample"):
                group = open_zarr_group(workspace, f"{path}/sample", "r")
                self.image_ids = [
                    str(name) for name in read_attributes(group, self.file)["image_ids"]
                ]
                names = [f"level_{a}" for a in range(shape.levels)]  # of version 0.5
                names = [_NAME] if _NAME in group else names
                self._arrays = [child_array(group, name) for name in names]

    def batches(self, images: int, band: tuple[int, int]) -> Iterator[Sequence[Tensor]]:
        """Yield a band of coarsest cells of all images, some at a time, as `read` returns them."""
        (array,), every = self._arrays, len(self.image_ids)
        together = -(-WRITTEN_TOGETHER // images) * images  # not each chunk several times
        for first in range(0, every, together):
            levels = self._split(self._read(array, first, min(first + together, every), band))
            yield from zip(*(level.split(images, dim=-1) for level in levels), strict=True)

    def read(self, places: Sequence[int]) -> list[Tensor]:
        """Return level matrices x[a] (G_a, d_a, N) of the images at ascending places."""
        first, stop = min(places), max(places) + 1
        wanted = torch.tensor(places) - first
        levels = []
        # Reading a slice and selecting is six times faster than reading single rows.
        for array in self._arrays:
            images = self._read(array, first, stop)
            levels.append(images if len(wanted) == len(images) else images[wanted])
        if len(levels) == 1:
            return self._split(levels[0])
        return [level.permute(1, 2, 0).contiguous() for level in levels]

    def _read(
        self, array: Any, first: int, stop: int, band: tuple[int, int] | None = None
    ) -> Tensor:
        with reports_array_damage(*self._damage):
            cells = slice(*band) if band else slice(None)
            images = torch.from_numpy(array[first:stop, cells])
            if len(images) < stop - first or not bool(images.sum().isfinite()):
                raise DamagedFileError(self.file, "embeddings are missing")
        return images

    def _split(self, rows: Tensor) -> list[Tensor]:
        """Return level matrices of embeddings (N, cells, numbers of a cell)."""
        shape, coarsest = self.shape, self.shape.levels - 1
        sizes = [shape.ratio(a, coarsest) * d for a, d in enumerate(shape.channels)]
        return [
            level.permute(1, 2, 0).reshape(-1, d, len(rows)).contiguous()
            for level, d in zip(rows.split(sizes, dim=-1), shape.channels, strict=True)
        ]
