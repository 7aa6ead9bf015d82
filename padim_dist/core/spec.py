"""Specification of an embedding as plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from padim_dist.core.choices import Jpeg, Precision
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.roi.runs import Runs


@dataclass(frozen=True)
class TrunkSpec:
    """Layers of a trunk and the channels drawn from them.

    Attributes
    ----------
    backbone : str
        Name of a torchvision classification model.
    layers : tuple of str
        Feature-node names, in the order of the paper's concatenation.
    drawn : tuple of tuple of int
        For each layer, its drawn channels, ascending.
    levels : tuple of int
        For each level of the pyramid, finest first, its index in `layers`.
    """

    backbone: str
    layers: tuple[str, ...]
    drawn: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class EmbeddingSpec:
    """Everything that determines an embedding, with the weights by their content address.

    Attributes
    ----------
    trunk : TrunkSpec
        Backbone, layers and drawn channels.
    shape : PyramidShape
        Grids and channels of the embedding.
    geometry : InputGeometry
        Resize and crop.
    weights : str
        Content address of the trunk's state dict.
    precision, jpeg : str
        Precision of the trunk, one of `PRECISIONS`, and JPEG decoder.
    batch : int
        Images in one call of the trunk.
    bits : int or None
        Bits of a sample that the camera delivers in files of 16 bits; None: all of them.
    """

    trunk: TrunkSpec
    shape: PyramidShape
    geometry: InputGeometry
    weights: str
    precision: Precision
    batch: int
    jpeg: Jpeg
    bits: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; without what versions before it lacked, if unset."""
        values = asdict(self)
        if self.bits is None:
            del values["bits"]
        if self.shape.inside is None:
            del values["shape"]["inside"]
        return values

    def within(self, inside: Runs | None) -> EmbeddingSpec:
        """Return the embedding of a region of interest, as of `PyramidShape`; None: of all."""
        return replace(self, shape=replace(self.shape, inside=inside))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbeddingSpec:
        """Return the specification from values of `to_dict`, also read from JSON."""
        parts = {"trunk": TrunkSpec, "shape": PyramidShape, "geometry": InputGeometry}
        made = {name: part(**_tuples(values[name])) for name, part in parts.items()}
        return cls(**{"jpeg": "libjpeg", **values, **made})  # models of format 3 lack jpeg


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with every list as a tuple."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list | tuple) else value

    return {key: convert(value) for key, value in values.items()}
