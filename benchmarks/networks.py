"""Time of trunks of torchvision and timm on one core: ``python -m benchmarks.networks``."""

from __future__ import annotations

import statistics
import time

import torch

from padim_dist.core.backbone import plan_trunk
from padim_dist.core.trunk import Trunk, random_state

_SIZE, _BATCH, _ROUNDS = (224, 224), 8, 7
_RESNET = ("layer1", "layer2", "layer3")
_CASES = (
    ("resnet18", _RESNET, "float32"),
    ("timm/resnet18", _RESNET, "float32"),
    ("timm/efficientnet_b0", ("blocks.1", "blocks.2", "blocks.4"), "float32"),
    ("timm/vit_small_patch16_224", ("blocks.3", "blocks.7"), "float32"),
    ("timm/vit_small_patch16_224", ("blocks.3", "blocks.7"), "bfloat16"),
)


def main() -> None:
    """Measure all trunks in turns; print the median time of an image."""
    torch.set_num_threads(1)
    trunks = []
    for backbone, layers, precision in _CASES:
        spec, _ = plan_trunk(backbone, layers, 60, 1, _SIZE)
        state = random_state(backbone, layers, 1, _SIZE)
        trunks.append(Trunk(spec, state, precision))
    images = torch.randint(0, 256, (_BATCH, 3, *_SIZE), dtype=torch.uint8)
    times: list[list[float]] = [[] for _ in trunks]
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            for trunk, taken in zip(trunks, times, strict=True):
                start = time.thread_time()
                trunk(images)
                taken.append((time.thread_time() - start) / _BATCH)
    for (backbone, layers, precision), taken in zip(_CASES, times, strict=True):
        milliseconds = 1000 * statistics.median(taken)
        print(f"{backbone} up to {layers[-1]}, {precision}: {milliseconds:.1f} ms an image")


if __name__ == "__main__":
    main()
