"""The ResNet-18 of the scripts that measure whole pipelines; needs only torch and the core."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from padim_dist.archive.reading.decode import decode
from padim_dist.archive.reading.transform import prepare
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.pyramid import PyramidShape
from padim_dist.core.spec import TrunkSpec
from padim_dist.core.trunk import Trunk, trunk_state

GEOMETRY = InputGeometry((256, 256), (224, 224))
_LAYERS, _CHANNELS = DEFAULTS["resnet18"]


def plan() -> tuple[TrunkSpec, PyramidShape]:
    """Return its layers and drawn channels, and its pyramid."""
    return plan_trunk("resnet18", _LAYERS, _CHANNELS, 1024, GEOMETRY.crop)


def load_trunk(weights: Path | str) -> Trunk:
    """Return the trunk with the weights of a file."""
    spec, _ = plan()
    return Trunk(spec, trunk_state("resnet18", _LAYERS, torch.load(weights)))


def load_pixels(data: bytes) -> Tensor:
    """Return the trunk's input from the bytes of a file."""
    return prepare(decode(data, 32_000_000), GEOMETRY)
