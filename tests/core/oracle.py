"""The paper's equations as dense float64 code, independent of the package."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def dense_embedding(maps: list[Tensor]) -> np.ndarray:
    """Repeat coarse maps and concatenate: (N, H, W, d), float64; finest map first."""
    height, width = maps[0].shape[-2:]
    parts = []
    for m in maps:
        up = m.double().numpy()
        up = up.repeat(height // up.shape[2], axis=2).repeat(width // up.shape[3], axis=3)
        parts.append(up.transpose(0, 2, 3, 1))
    return np.concatenate(parts, axis=-1)


def dense_fit(x: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Equation (1): mean (H, W, d) and covariance (H, W, d, d)."""
    mean = x.mean(axis=0)
    centred = x - mean
    covariance = np.einsum("nhwi,nhwj->hwij", centred, centred) / max(len(x) - 1, 1)
    return mean, covariance + epsilon * np.eye(x.shape[-1])


def dense_distances(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Equation (2): (N, H, W)."""
    centred = x - mean
    solved = np.linalg.solve(covariance[None], centred[..., None])[..., 0]
    return np.sqrt((centred * solved).sum(axis=-1))


def random_maps(shape, n: int, generator: torch.Generator) -> list[Tensor]:
    """Return feature maps with correlated channels; offset and spread as in real embeddings.

    (ResNet-18 on photographs: deviations of 0.2 to 0.6 about means of 0 to 2.)
    """
    maps = []
    for (h, w), d in zip(shape.grids, shape.channels, strict=True):
        mix = torch.randn(d, d, generator=generator) * 0.4 / d**0.5
        noise = torch.randn(n, h, w, d, generator=generator) @ mix
        maps.append((noise + torch.rand(d, generator=generator) * 2).permute(0, 3, 1, 2))
    return maps
