"""Compare anomalib's PaDiM model with this project's core, on the same tensors.

    python -m benchmarks.foreign.anomalib_model WEIGHTS [ROUNDS]

The same weights and channels, batches of 32 images of 224 x 224, two threads. Prints seconds
an image of both (lists, interleaved), and the difference of the distances.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from anomalib.models.image.padim.torch_model import PadimModel
from torch import Tensor

from benchmarks.resnet import load_trunk, plan
from padim_dist.core.backbones.networks import IMAGENET_MEAN, IMAGENET_STD
from padim_dist.core.covariance import Covariance
from padim_dist.core.gaussian import factorise
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments

BATCH, NORMAL = 32, 160
EPSILON = 0.01 + 1e-5  # anomalib adds it in two places


def main() -> None:
    """Measure and print."""
    weights, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    spec, shape = plan()
    trunk = load_trunk(weights)
    theirs = PadimModel(backbone="resnet18", pre_trained=False, n_features=100)
    theirs.feature_extractor.feature_extractor.load_state_dict(torch.load(weights), strict=False)
    starts = (0, 64, 192)
    theirs.idx = torch.tensor(
        [start + c for start, drawn in zip(starts, spec.drawn, strict=True) for c in drawn]
    )
    generator = torch.Generator().manual_seed(0)
    scene = torch.randint(0, 200, (3, 28, 28), generator=generator)
    scene = scene.repeat_interleave(8, 1).repeat_interleave(8, 2)
    noise = torch.randint(0, 56, (NORMAL + BATCH, 3, 224, 224), generator=generator)
    pixels = (scene + noise).to(torch.uint8).contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = ((pixels / 255 - mean) / std).contiguous()
    kept: dict[str, Any] = {}

    def fit_mine() -> None:
        moments = Moments.zeros(shape)
        for start in range(0, NORMAL, BATCH):
            moments.update(shape.nest(trunk(pixels[start : start + BATCH])))
        kept["mine"] = factorise(moments, Covariance.of(moments, EPSILON))

    def fit_theirs() -> None:
        theirs.train()
        for start in range(0, NORMAL, BATCH):
            theirs(normalised[start : start + BATCH])
        theirs.fit()
        theirs.eval()

    def score_mine() -> Tensor:
        distances = shape.unnest(kept["mine"].distances(shape.nest(trunk(pixels[NORMAL:]))))
        find_peaks(AnomalyMap.build((56, 56), (224, 224), 4.0).full(distances))
        return distances

    def score_theirs() -> None:
        theirs(normalised[NORMAL:])

    works: dict[str, tuple[Callable[[], Any], int]] = {
        "fit": (fit_mine, NORMAL),
        "fit, anomalib": (fit_theirs, NORMAL),
        "score": (score_mine, BATCH),
        "score, anomalib": (score_theirs, BATCH),
    }
    found: dict[str, Any] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, (work, images) in works.items():
            began = time.perf_counter()
            work()
            if round_:  # the first is a warm-up
                found[name].append((time.perf_counter() - began) / images)
    embedding = theirs.generate_embedding(theirs.feature_extractor(normalised[NORMAL:]))
    gaussian = theirs.gaussian
    wanted = theirs.anomaly_map_generator.compute_distance(
        embedding, [gaussian.mean, gaussian.inv_covariance]
    )[:, 0]
    apart = (score_mine() - wanted).abs() / wanted
    print(json.dumps({**found, "apart": float(apart.max())}))


if __name__ == "__main__":
    main()
