"""Training of the variational autoencoder, which goes on where it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor
from torchvision.transforms.v2 import functional as change

from benchmarks.paper.protocol import read_pixels
from benchmarks.paper.sets import Picture
from benchmarks.paper.vae import GREY_LEVELS, LATENT, SIDE, WIDER, Vae
from padim_dist.core.geometry import InputGeometry
from padim_dist.local_files import write_local

_WHOLE = InputGeometry((SIDE, SIDE), (SIDE, SIDE))
_CUT = 282
_DEGREES = 2.0


@dataclass(frozen=True)
class Training:
    """How long to train.

    Attributes
    ----------
    images : int
        Augmented images of an epoch.
    epochs : int
        Epochs.
    batch : int
        Images of a step.
    rate : float
        Learning rate of Adam.
    seed : int
        Seed of weights, augmentations and noise.
    """

    images: int
    epochs: int
    batch: int = 32
    rate: float = 1e-4
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.epochs * self.images // self.batch


FULL = Training(images=10_000, epochs=100)
"""As in the paper."""
QUICK = Training(images=480, epochs=1, batch=8, rate=1e-3)
"""Minutes on two cores: its figures are not those of the paper's model."""


def train(
    pictures: Sequence[Picture], training: Training, checkpoint: Path, every: int = 20
) -> Vae:
    """Train a model, from the last checkpoint if there is one.

    Parameters
    ----------
    pictures : sequence of Picture
        Normal images.
    training : Training
        How long; a checkpoint of another training is not used.
    checkpoint : Path
        Its file; it is replaced every so many steps, and after the last one.
    every : int, optional
        Steps between checkpoints.
    """
    torch.manual_seed(training.seed)
    vae = Vae()
    optimizer = torch.optim.Adam(vae.parameters(), lr=training.rate)
    done = 0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        if kept["training"] == asdict(training):
            vae.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])
            done = kept["done"]
    images = [read_pixels(picture.path, _WHOLE) for picture in pictures]
    vae.train()
    with Progress(transient=True) as bars, torch.enable_grad():
        bar = bars.add_task("VAE: training", total=training.steps, completed=done)
        for step in range(done, training.steps):
            optimizer.zero_grad()
            vae.loss(*_batch(images, training, step)).backward()
            optimizer.step()
            bars.advance(bar)
            if (step + 1) % every == 0 or step + 1 == training.steps:
                state = {
                    "training": asdict(training),
                    "model": vae.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "done": step + 1,
                }
                write_local(str(checkpoint), partial(torch.save, state))
    return vae


def _batch(images: Sequence[Tensor], training: Training, step: int) -> tuple[Tensor, Tensor]:
    """Return the images in 0 to 1 and the noise of a step: the same after a resume."""
    random = torch.Generator().manual_seed(training.seed * 2**32 + step)
    places = torch.randint(len(images), (training.batch,), generator=random)
    pixels = torch.stack([augment(images[place], random) for place in places])
    noise = torch.randn(training.batch, LATENT, SIDE // 32, SIDE // 32, generator=random)
    return pixels.float() / GREY_LEVELS, noise


def augment(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Return an image (3, 256, 256) with the paper's augmentations.

    It is rotated by up to 2 degrees, resized to 292 x 292, a random part of 282 x 282 is cut out,
    and of that the centre of 256 x 256.
    """
    angle = float(torch.empty(()).uniform_(-_DEGREES, _DEGREES, generator=random))
    turned = change.rotate(pixels, angle, interpolation=change.InterpolationMode.BILINEAR)
    wide = change.resize(turned, [WIDER, WIDER], antialias=True)
    top, left = torch.randint(WIDER - _CUT + 1, (2,), generator=random).tolist()
    cut: Tensor = change.center_crop(wide[:, top : top + _CUT, left : left + _CUT], [SIDE, SIDE])
    return cut
