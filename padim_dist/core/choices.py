"""What there is to choose from, for the settings and for whoever carries them out."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of the trunk's convolutions."""
Jpeg = Literal["libjpeg", "nvjpeg"]
"""Who decodes JPEG."""
