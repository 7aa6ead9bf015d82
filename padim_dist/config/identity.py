"""Settings of a model as they identify it."""

from __future__ import annotations

from typing import Any

from padim_dist.config.model import ModelConfig

_ADDED = {"align": None, "roi": None, "reduction": "draw", "engine": "torch"}
"""Settings that version 0.5 lacked, and what it did."""
_BATCH, _SIDE = 32, 256
"""Images of a batch, and the side of the largest square picture that it has so many of."""


def batch_images(model: ModelConfig) -> int:
    """Return the images of a batch; they depend on nothing but the settings.

    Auto gives a power of two, so that blocks of 32 images, between which shards are cut, are whole
    batches.

    Examples
    --------
    >>> sides = 256, 320, 512, 1024, 2048
    >>> [batch_images(ModelConfig(resize=side)) for side in sides]
    [32, 16, 8, 2, 1]
    """
    if model.batch != "auto":
        return model.batch
    height, width = model.crop
    most = max(1, min(_BATCH, _BATCH * _SIDE**2 // (height * width)))
    return 1 << (most.bit_length() - 1)


def identity(model: ModelConfig) -> dict[str, Any]:
    """Return the settings that identify a model, as JSON values.

    A setting that earlier versions lacked is left out unless it is set, so that their models are
    found.
    """
    values = {**model.model_dump(mode="json"), "batch": batch_images(model)}
    return {name: v for name, v in values.items() if name not in _ADDED or v != _ADDED[name]}
