"""Trunks of both engines in turns: ``python -m benchmarks.engines [--threads N] [--rounds N]``.

Images of 224x224 in a second of processor time, for ResNet-18's trunk alone and batches of 32, and
how far its feature maps are from those of PyTorch in float32. With ``ONEDNN_MAX_CPU_ISA`` set to
``AVX512_CORE`` in the environment OpenVINO does without VNNI.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from benchmarks.measure import interleave, machine
from benchmarks.pictures import find_pictures
from padim_dist.archive.reading.transform import prepare
from padim_dist.core.backbone import DEFAULTS, plan_trunk
from padim_dist.core.choices import Precision
from padim_dist.core.engines.conversion import convert
from padim_dist.core.engines.converted import ConvertedTrunk
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.trunk import Trunk, trunk_state

_SIZE, _BATCH, _SAMPLE = (224, 224), 32, 64
_GEOMETRY = InputGeometry((256, 256), _SIZE)
_TORCH: tuple[Precision, ...] = ("float32", "bfloat16")
_OPENVINO: tuple[Precision, ...] = ("float32", "bfloat16", "int8")


def load(paths: list[Path]) -> Tensor:
    """Return images as a fit embeds them, (N, 3, H, W), channels_last."""
    images = [decode_image(str(path), ImageReadMode.RGB) for path in paths]
    batch = torch.stack([prepare(image, _GEOMETRY) for image in images])
    return batch.contiguous(memory_format=torch.channels_last)


def rate(trunk: Callable[[Tensor], list[Tensor]], images: Tensor) -> Callable[[], float]:
    """Return work that measures images in a second of a core's time: other load hardly counts."""

    @torch.inference_mode()
    def work() -> float:
        began = time.process_time()
        trunk(images)
        return len(images) / (time.process_time() - began)

    return work


def main() -> None:
    """Convert the trunk, measure all of them in turns, and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with TemporaryDirectory() as folder:
        pictures = find_pictures(Path(folder))
        paths = sorted((pictures.root / "train").rglob("*.jpg"))
        sample, images = load(paths[:_SAMPLE]), load(paths[-_BATCH:])
        layers = DEFAULTS["resnet18"].layers
        spec, _ = plan_trunk("resnet18", layers, 100, 1024, _SIZE)
        state = trunk_state("resnet18", layers, torch.load(pictures.weights, weights_only=True))
    began = time.perf_counter()
    whole = convert(spec, state, _SIZE)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    small = convert(spec, state, _SIZE, sample)
    print(f"converted in {seconds:.1f} s, quantised in {time.perf_counter() - began:.1f} s")
    trunks: dict[str, Callable[[Tensor], list[Tensor]]] = {
        f"torch {precision}": Trunk(spec, state, precision) for precision in _TORCH
    }
    for precision in _OPENVINO:
        kept = small if precision == "int8" else whole
        trunks[f"openvino {precision}"] = ConvertedTrunk(spec, kept, precision)
    with torch.inference_mode():
        maps = {name: trunk(images) for name, trunk in trunks.items()}  # and warms up
    found = interleave(asked.rounds, {name: rate(trunks[name], images) for name in trunks})
    wanted, base = maps["torch float32"], median(found["torch float32"])
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    print(f"{machine()}\n{pictures.what}; {asked.threads} threads; instructions: {isa}")
    for name, rates in found.items():
        apart = max(
            float((a - b).norm() / b.norm()) for a, b in zip(maps[name], wanted, strict=True)
        )
        print(
            f"{name:<18} {median(rates):7.1f} images/s ({min(rates):.1f} to {max(rates):.1f}), "
            f"{median(rates) / base:.2f} of torch float32; maps {apart:.2g} apart"
        )


if __name__ == "__main__":
    main()
