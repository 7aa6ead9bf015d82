"""What turns an image into nested patch embeddings, as plain data and as a callable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from padim_dist.core.backbone import TrunkSpec
from padim_dist.core.choices import Jpeg, Precision
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.trunk import Trunk


@dataclass(frozen=True)
class EmbeddingSpec:
    """Everything that determines an embedding, apart from the weights' numbers.

    Attributes
    ----------
    trunk : TrunkSpec
        Backbone, layers and drawn channels.
    shape : PyramidShape
        Of the embedding.
    geometry : InputGeometry
        Resize and crop.
    weights : str
        Content address of the trunk's state dict.
    precision : str
        Of the trunk, one of `PRECISIONS`.
    batch : int
        Images in one call of the trunk.
    jpeg : str
        Who decodes JPEG.
    """

    trunk: TrunkSpec
    shape: PyramidShape
    geometry: InputGeometry
    weights: str
    precision: Precision
    batch: int
    jpeg: Jpeg

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbeddingSpec:
        """From what `to_dict` gave, also after a way through JSON."""
        return cls(
            trunk=TrunkSpec(**_tuples(values["trunk"])),
            shape=PyramidShape(**_tuples(values["shape"])),
            geometry=InputGeometry(**_tuples(values["geometry"])),
            weights=values["weights"],
            precision=values["precision"],
            batch=values["batch"],
            jpeg=values.get("jpeg", "libjpeg"),  # models of format 3 do not say it
        )


class Embedder:
    """A trunk on a device, and the nesting of what it gives.

    Parameters
    ----------
    spec : EmbeddingSpec
        What to embed with.
    state : mapping of str to Tensor
        The trunk's state dict.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self, spec: EmbeddingSpec, state: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self.spec = spec
        self.device = device
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


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list | tuple) else value

    return {key: convert(value) for key, value in values.items()}
