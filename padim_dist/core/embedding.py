"""Embedding of image batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

import torch
from torch import Tensor
from torch.nn import functional

from padim_dist.core.engines.converted import ConvertedTrunk
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import Trunk

TOGETHER = 8
"""Most images in one call of a trunk on a processor. More of them are no faster there, take memory
for their activations, and leave more to fill up in the last call of a shard."""


class Embedder:
    """A trunk on a device whose feature maps are put into nested order.

    Parameters
    ----------
    spec : EmbeddingSpec
        Specification of the embedding.
    state : mapping of str to Tensor
        The trunk's state dict, or its converted network.
    device : torch.device
        Device of the embeddings, and of a trunk of PyTorch.
    """

    def __init__(
        self, spec: EmbeddingSpec, state: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self.spec, self.device = spec, device
        self.trunk: Callable[[Tensor], list[Tensor]]
        if spec.engine == "torch":
            self.trunk = Trunk(spec.trunk, state, spec.precision).to(device)
            self._takes = device
        else:
            self.trunk = ConvertedTrunk(spec.trunk, state, spec.precision)
            self._takes = torch.device("cpu")
        self._together = min(spec.batch, TOGETHER if self._takes.type == "cpu" else spec.batch)

    def within(self, spec: EmbeddingSpec) -> Embedder:
        """Return the embedder of a region of interest with the same trunk: that of `spec`."""
        if spec == self.spec:
            return self
        other = copy(self)
        other.spec = spec
        return other

    @torch.inference_mode()
    def __call__(self, images: Tensor, wanted: int | None = None) -> list[Tensor]:
        """Embed a batch.

        Parameters
        ----------
        images : Tensor
            uint8, shape (N, 3, H, W).
        wanted : int, optional
            How many of the images matter, by default all; the rest fills up the batch.

        Returns
        -------
        list of Tensor
            Level matrices (G_a, d_a, N), float32, in nested order.
        """
        return self.spec.shape.nest(self.maps(images, wanted))

    def maps(self, images: Tensor, wanted: int | None = None) -> list[Tensor]:
        """Return the trunk's feature maps (N, d_a, H_a, W_a) of a batch, on the device.

        With `wanted`, a call of the trunk always has as many images, black ones if there are no
        others, so that an image's maps do not depend on its neighbours. Calls without a wanted
        image are left out: zeros are in their place.
        """
        count = len(images)
        if wanted is not None and (missing := -count % self._together):
            images = torch.cat([images, images.new_zeros((missing, *images.shape[1:]))])
        calls = images.split(self._together)
        needed = len(calls) if wanted is None else max(1, -(-wanted // self._together))
        found = [self.trunk(one.to(self._takes, non_blocking=True)) for one in calls[:needed]]
        found += [[torch.zeros_like(maps) for maps in found[0]]] * (len(calls) - needed)
        levels = zip(*found, strict=True)
        joined = [torch.cat(maps) if len(maps) > 1 else maps[0] for maps in levels]
        return [level[:count].to(self.device) for level in joined]


def similarities(image: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return how similar other images are to an image, position by position.

    It is the mean cosine of their vectors, over the positions of a level and over the levels. Each
    position counts at most once, so a defect that covers a small part of an image hardly matters.

    Parameters
    ----------
    image, others : sequence of Tensor
        Level matrices (G_a, d_a, 1) and (G_a, d_a, N).

    Returns
    -------
    Tensor
        (N,), at most 1.
    """
    levels = zip(image, others, strict=True)
    cosines = [functional.cosine_similarity(one, many, dim=1).mean(dim=0) for one, many in levels]
    return torch.stack(cosines).mean(dim=0)
