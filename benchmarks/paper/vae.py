"""The paper's variational autoencoder (section IV-B): what it reconstructs badly is anomalous.

A ResNet-18 encodes 256 x 256 pixels into a latent variable of 8 x 8 positions, convolutions decode
it. The paper does not give the decoder and the number of latent channels. Here the decoder mirrors
the encoder: at each step the map is enlarged twice, then convolved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from benchmarks.paper.protocol import Figures, judge_maps, read_batches
from benchmarks.paper.sets import Picture
from padim_dist.core.geometry import InputGeometry

SIDE = 256
WIDER = 292
GEOMETRY = InputGeometry((WIDER, WIDER), (SIDE, SIDE))
"""Of test images: the centre that the augmentations of the training leave, at the same scale."""
LATENT = 64
_WIDTHS = (512, 256, 128, 64, 32, 16)
GREY_LEVELS = 255.0


class Vae(nn.Module):
    """Encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        trunk = resnet18(weights=None)
        self.encoder = nn.Sequential(*list(trunk.children())[:-2])  # without pooling and classes
        self.latent = nn.Conv2d(512, 2 * LATENT, 1)
        steps: list[nn.Module] = [nn.Conv2d(LATENT, _WIDTHS[0], 1)]
        for before, after in pairwise(_WIDTHS):
            steps += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.decoder = nn.Sequential(*steps, nn.Conv2d(_WIDTHS[-1], 3, 3, padding=1), nn.Sigmoid())

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance (N, 64, 8, 8) of images in 0 to 1."""
        mean, log_variance = self.latent(self.encoder(images)).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstruction (N, 3, 256, 256) of images in 0 to 1, by the latent mean."""
        reconstruction: Tensor = self.decoder(self.encode(images)[0])
        return reconstruction

    def loss(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of a batch: squared error plus divergence, summed over an image.

        Parameters
        ----------
        images : Tensor
            (N, 3, 256, 256), in 0 to 1.
        noise : Tensor
            Standard normal, (N, 64, 8, 8).
        """
        mean, log_variance = self.encode(images)
        found = self.decoder(mean + (0.5 * log_variance).exp() * noise)
        error = functional.mse_loss(found, images, reduction="sum")
        return (error + divergence(mean, log_variance)) / len(images)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of normal distributions from the standard one, summed."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()


def error_maps(vae: Vae, pixels: Tensor) -> Tensor:
    """Return the squared error (N, H, W) of images, uint8 (N, 3, H, W), in grey levels squared.

    It is the mean over the three colours, without a filter, as the paper describes it.
    """
    images = pixels.float() / GREY_LEVELS
    found: Tensor = vae(images)
    return ((found - images) * GREY_LEVELS).square().mean(dim=1)


def judge(vae: Vae, test: Sequence[Picture]) -> Figures:
    """Return the figures of a trained model."""
    vae.eval()

    def maps() -> Iterator[Tensor]:
        for pixels in read_batches(test, GEOMETRY, "VAE"):
            yield error_maps(vae, pixels)

    return judge_maps(test, GEOMETRY, maps())


def load(path: Path) -> Vae:
    """Return the model of a checkpoint."""
    vae = Vae()
    vae.load_state_dict(torch.load(path, weights_only=True)["model"])
    return vae
