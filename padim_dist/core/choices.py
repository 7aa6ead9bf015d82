"""Literal types shared by the configuration and the code."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16", "float16", "int8"]
"""Precision of the trunk's convolutions."""
Engine = Literal["torch", "openvino"]
"""Library that runs the trunk: see `padim_dist.core.engines`."""
Jpeg = Literal["libjpeg", "reduced", "nvjpeg"]
"""JPEG decoder."""
Reduction = Literal["draw", "project"]
"""How layers get fewer channels: see `padim_dist.core.backbones.reduction`."""
