"""An embedder calls its trunk with as many images as it takes; an image's maps stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.embedding import TOGETHER, Embedder
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.spec import EmbeddingSpec
from padim_dist.core.trunk import random_state

SIZE = (32, 32)
LAYERS = DEFAULTS["resnet18"].layers
SPEC, SHAPE = plan_trunk("resnet18", LAYERS, 20, 1024, SIZE)


class Counted(Embedder):
    """Notes how many images each call of its trunk has."""

    def __init__(self, batch: int) -> None:
        geometry = InputGeometry(SIZE, SIZE)
        spec = EmbeddingSpec(SPEC, SHAPE, geometry, "w", "float32", batch, "libjpeg")
        super().__init__(spec, random_state("resnet18", LAYERS, 0), torch.device("cpu"))
        self.calls: list[int] = []
        trunk = self.trunk

        def counted(images: Tensor) -> list[Tensor]:
            self.calls.append(len(images))
            return trunk(images)

        self.trunk = counted


def some_images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("batch", "wanted", "calls"),
    [(32, 32, [8] * 4), (32, 9, [8, 8]), (32, 0, [8]), (12, 12, [8, 8]), (12, 3, [8]), (5, 4, [5])],
)
def test_calls_are_full_and_those_without_a_wanted_image_are_left_out(batch, wanted, calls):
    embed, images = Counted(batch), some_images(batch)
    levels = embed(images, wanted)
    assert embed.calls == calls
    assert [tuple(level.shape) for level in levels] == [
        (g, d, batch) for g, d in zip(SHAPE.positions, SHAPE.channels, strict=True)
    ]
    for found, whole in zip(levels, Counted(batch)(images), strict=True):
        torch.testing.assert_close(found[..., :wanted], whole[..., :wanted], rtol=1e-5, atol=1e-5)
        done = -(-max(wanted, 1) // embed.calls[0]) * embed.calls[0]
        assert not found[..., done:].any()


@pytest.mark.parametrize("batch", [12, 32])
def test_an_images_maps_do_not_depend_on_its_place(batch):
    images = some_images(batch)
    there = Counted(batch)(images, batch)
    moved = Counted(batch)(images.roll(-1, dims=0), batch)
    for before, after in zip(there, moved, strict=True):
        assert torch.equal(before.roll(-1, dims=-1), after)


def test_without_padding_the_last_call_has_the_rest():
    embed = Counted(32)
    embed(some_images(21))
    assert embed.calls == [TOGETHER, TOGETHER, 5]
