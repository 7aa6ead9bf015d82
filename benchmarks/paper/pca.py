"""Principal components of all patch embeddings of a training set (Table II)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.paper.features import Maps, batches


@dataclass(frozen=True)
class Pca:
    """Projection of embeddings on their directions of highest variance.

    Attributes
    ----------
    mean : Tensor
        Mean embedding, (d,), float32.
    directions : Tensor
        Orthonormal columns by descending variance, (d, k), float32.
    channels : tuple of int
        Channels of each layer; their sum is d.
    """

    mean: Tensor
    directions: Tensor
    channels: tuple[int, ...]

    @classmethod
    def fit(cls, maps: Sequence[Maps], components: int) -> Pca:
        """Fit on the patches of all images: coarse vectors are repeated, as in section III-A.

        Parameters
        ----------
        maps : sequence of array
            Feature maps (N, H, W, C) of each layer, finest first.
        components : int
            Number of components k.
        """
        # Each vector of a layer is repeated equally often: the mean is that of its layer.
        sums = [torch.zeros(layer.shape[-1], dtype=torch.float64) for layer in maps]
        for batch in batches(maps):
            for sums_of_layer, layer in zip(sums, batch, strict=True):
                sums_of_layer += layer.double().mean(dim=(2, 3)).sum(dim=0)
        mean = torch.cat(sums) / len(maps[0])
        scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for batch in batches(maps):
            centred = embed(batch).permute(0, 2, 3, 1).flatten(0, 2) - mean.float()
            scatter += (centred.T @ centred).double()
        _, vectors = torch.linalg.eigh(scatter)  # ascending
        directions = vectors.flip(1)[:, :components].float()
        return cls(mean.float(), directions, tuple(layer.shape[-1] for layer in maps))

    def project(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the components (N, k, H, W) of feature maps (N, C, H, W) of each layer."""
        size = batch[0].shape[-2:]
        parts = zip(
            batch,
            self.directions.split(list(self.channels)),
            self.mean.split(list(self.channels)),
            strict=True,
        )
        found = None
        for layer, directions, mean in parts:  # projected before it is repeated: the same sums
            own = (layer.permute(0, 2, 3, 1) - mean) @ directions
            own = functional.interpolate(own.permute(0, 3, 1, 2), size=size, mode="nearest")
            found = own if found is None else found + own
        assert found is not None
        return found


def embed(batch: Sequence[Tensor]) -> Tensor:
    """Return the embeddings (N, d, H, W): coarse vectors repeated, all layers concatenated."""
    size = batch[0].shape[-2:]
    return torch.cat([functional.interpolate(m, size=size, mode="nearest") for m in batch], dim=1)
