"""Run a Ray Data pipeline over the same files: read, decode, trunk, a Parquet file of one number.

    python -m benchmarks.foreign.ray_pipeline FOLDER WEIGHTS OUT

It uses this project's decoding and trunk, so that only the engines differ. It does not fit,
measure distances or write heatmaps. Prints the number of images; the caller measures the time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.resnet import load_pixels, load_trunk
from padim_dist.archive.reading.transform import together


class Embed:
    """An actor with the trunk."""

    def __init__(self, weights: str) -> None:
        torch.set_num_threads(1)
        self.trunk = load_trunk(weights)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the largest activation of each image from its bytes."""
        finest = self.trunk(together([load_pixels(data) for data in batch["bytes"]]))[0]
        return {"path": batch["path"], "most": np.asarray(finest.flatten(1).amax(dim=1))}


def main() -> None:
    """Run the pipeline."""
    folder, weights, out = sys.argv[1:4]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    paths = [str(path) for path in sorted(Path(folder).rglob("*.jpg"))]
    images = ray.data.read_binary_files(paths, include_paths=True)
    embedded = images.map_batches(
        Embed, fn_constructor_args=(weights,), batch_size=32, concurrency=2, num_cpus=0.5
    )
    embedded.write_parquet(out)
    print(json.dumps({"images": len(paths)}))


if __name__ == "__main__":
    main()
