"""What is under the synthetic parts, and the light on them."""

from __future__ import annotations

from math import pi

import numpy as np
from PIL import Image, ImageFilter

SIZE = 320
"""Height and width of a picture."""
LARGE = 2 * SIZE
"""Height and width at which it is drawn."""


def ground(rng: np.random.Generator) -> Image.Image:
    """Draw a woven conveyor belt."""
    y, x = np.mgrid[:LARGE, :LARGE]
    weave = 5 * np.sin(x * 2 * pi / 24) * np.sin(y * 2 * pi / 24)
    grain = np.asarray(noise(rng, 3), np.float64)
    level = np.clip(66 + weave + 14 * grain, 0, 255)
    return Image.fromarray(np.stack([level * 0.92, level, level * 1.06], -1).astype(np.uint8))


def noise(rng: np.random.Generator, blur: float) -> Image.Image:
    """Return smooth noise with standard deviation 1, mode F."""
    small = Image.fromarray(rng.normal(0, 1, (LARGE // 4, LARGE // 4)).astype(np.float32))
    image = np.asarray(small.resize((LARGE, LARGE), Image.Resampling.BICUBIC))
    grey = Image.fromarray(np.clip(image * 40 + 128, 0, 255).astype(np.uint8))
    values = np.asarray(grey.filter(ImageFilter.GaussianBlur(blur)), np.float32)
    return Image.fromarray((values - values.mean()) / max(float(values.std()), 1e-6))


def light(scene: Image.Image, part: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put the part on the ground with its shadow, in slightly varying light."""
    shadow = part.getchannel("A").filter(ImageFilter.GaussianBlur(10)).point(lambda v: v * 0.45)
    scene.paste((20, 20, 24), (8, 10), shadow)
    scene.paste(part, (0, 0), part)
    small = np.asarray(scene.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float64)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    slope = rng.normal(0, 0.04, 2)
    lamp = (1 + rng.normal(0, 0.025)) * (1 + slope[0] * y + slope[1] * x - 0.25 * (x * x + y * y))
    tint = 1 + rng.normal(0, 0.008, 3)
    noisy = small * lamp[..., None] * tint + rng.normal(0, 2.0, small.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
