"""Embedding of image batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import Trunk


class Embedder:
    """A trunk on a device whose feature maps are put into nested order.

    Parameters
    ----------
    spec : EmbeddingSpec
        Specification of the embedding.
    state : mapping of str to Tensor
        The trunk's state dict.
    device : torch.device
        Device of the trunk.
    """

    def __init__(
        self, spec: EmbeddingSpec, state: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self.spec, self.device = spec, device
        self.trunk = Trunk(spec.trunk, state, spec.precision).to(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Embed a batch.

        Parameters
        ----------
        images : Tensor
            uint8, shape (N, 3, H, W).

        Returns
        -------
        list of Tensor
            Level matrices (G_a, d_a, N), float32, in nested order.
        """
        return self.spec.shape.nest(self.trunk(images.to(self.device, non_blocking=True)))
