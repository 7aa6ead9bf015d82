"""Specification of an embedding as plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from padim_dist.core.choices import Engine, Jpeg, Precision
from padim_dist.core.geometry import Grid, InputGeometry
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.roi.runs import Runs

_ADDED = {"bits": None, "align": None, "engine": "torch"}
"""Fields that earlier versions lacked, and what they did."""
_ADDED_TO_TRUNK = dict.fromkeys(("size", "mean", "std", "projected"))
_ADDED_TO_SHAPE = {"inside": None}


@dataclass(frozen=True)
class TrunkSpec:
    """Layers of a trunk and the channels drawn from them.

    Attributes
    ----------
    backbone : str
        Name of a network, see `padim_dist.core.backbones.networks`.
    layers : tuple of str
        Feature-node names, in the order of the paper's concatenation.
    drawn : tuple of tuple of int
        For each layer, its drawn channels, ascending.
    levels : tuple of int
        For each level of the pyramid, finest first, its index in `layers`.
    size : (int, int) or None
        Height and width that the network is made for; None of torchvision's, which take any.
    mean, std : tuple of float or None
        What pixels from 0 to 1 are normalised by; None: as those of ImageNet.
    projected : tuple of int or None
        For each layer, the dimensions that its drawn channels are projected to; the matrices are
        with the weights. None: they are not.
    """

    backbone: str
    layers: tuple[str, ...]
    drawn: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]
    size: Grid | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    projected: tuple[int, ...] | None = None


@dataclass(frozen=True)
class AlignSpec:
    """How images are aligned before they are embedded.

    Attributes
    ----------
    shift, rotate : float
        Largest shift in pixels of the resized image, and largest turn in degrees.
    reference : str
        Content address of the group's reference. Empty in the specification of a model, whose
        groups have references of their own (`ModelInfo.references`).
    """

    shift: float
    rotate: float
    reference: str = ""


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
        Content address of the trunk's state dict, or of the converted network of an engine.
    precision, jpeg : str
        Precision of the trunk, and JPEG decoder.
    batch : int
        Images that are embedded and judged together.
    bits : int or None
        Bits of a sample that the camera delivers in files of 16 bits; None: all of them.
    align : AlignSpec or None
        How images are aligned; None: they are embedded as they are.
    engine : str
        Library that runs the trunk.
    """

    trunk: TrunkSpec
    shape: PyramidShape
    geometry: InputGeometry
    weights: str
    precision: Precision
    batch: int
    jpeg: Jpeg
    bits: int | None = None
    align: AlignSpec | None = None
    engine: Engine = "torch"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; without what versions before it lacked, if unset."""
        values = asdict(self)
        trunk, shape = values["trunk"], values["shape"]
        parts = ((values, _ADDED), (trunk, _ADDED_TO_TRUNK), (shape, _ADDED_TO_SHAPE))
        for part, added in parts:
            for name, before in added.items():
                if part[name] == before:
                    del part[name]
        return values

    def within(self, inside: Runs | None) -> EmbeddingSpec:
        """Return the embedding of a region of interest, as of `PyramidShape`; None: of all."""
        return replace(self, shape=replace(self.shape, inside=inside))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmbeddingSpec:
        """Return the specification from values of `to_dict`, also read from JSON."""
        parts: dict[str, Any] = {
            "trunk": TrunkSpec,
            "shape": PyramidShape,
            "geometry": InputGeometry,
        }
        made = {name: part(**_tuples(values[name])) for name, part in parts.items()}
        if values.get("align") is not None:
            made["align"] = AlignSpec(**values["align"])
        return cls(**{"jpeg": "libjpeg", **values, **made})  # models of format 3 lack jpeg

    def with_reference(self, reference: str) -> EmbeddingSpec:
        """Return the specification of a group, given the content address of its reference."""
        return replace(self, align=self.align and replace(self.align, reference=reference))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with every list as a tuple."""

    def convert(value: Any) -> Any:
        return tuple(map(convert, value)) if isinstance(value, list | tuple) else value

    return {key: convert(value) for key, value in values.items()}
