"""Measure the time of a night as a flow, and as a command.

    python -m benchmarks.flow_overhead [--rounds 5] [--images 40]

starts a Prefect server (SQLite) and a Dask cluster of two workers that stay, and fits and
promotes a model (images of 64 pixels, random weights). Each round then has two nights of
``--images`` new images: one by ``padim-dist audit``, one by the flow ``nightly-audit`` in a
process of its own. Prints the seconds of both, from the start of the process to its end, and
the difference of their medians.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml
from distributed import LocalCluster

import padim_dist as padim
from benchmarks.growing import draw
from tests.flows.services import prefect_server

FLOW = """
import sys
from flows.night import nightly_audit
if __name__ == "__main__":
    nightly_audit(config=sys.argv[1])
"""


def main(rounds: int, images: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        drawn = draw(root / "drawn")
        arrived = 0

        def arrive(folder: Path, count: int) -> None:
            nonlocal arrived
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                (folder / f"{arrived:06d}.jpg").hardlink_to(drawn[arrived % len(drawn)])
                arrived += 1

        arrive(root / "archive/one/good", 100)
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
            prefect_server(root) as environment,
        ):
            tree = {
                "workspace": str(root / "audit"),
                "archive": {"url": str(root / "archive"), "train": "/good/", "shard_images": 8},
                "model": {"weights": "random", "resize": 72, "crop": 64, "channels": 40},
                "score": {"splits": ["test"]},
                "cluster": {"kind": "address", "address": cluster.scheduler_address},
            }
            path = root / "config.yaml"
            path.write_text(yaml.safe_dump(tree))
            config = padim.load_config(path)
            padim.promote(config, model=padim.fit(config).model_id, note="")
            command = [sys.executable, "-m", "padim_dist", "audit", "-c", str(path), "--json"]
            ways = {"command": command, "flow": [sys.executable, "-c", FLOW, str(path)]}
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(rounds + 1):
                for way, words in ways.items():
                    arrive(root / "archive/one/line", images)
                    began = time.monotonic()
                    subprocess.run(words, env=environment, check=True, capture_output=True)
                    if number:  # the first round fills caches
                        taken[way].append(time.monotonic() - began)
        for way, seconds in taken.items():
            told = ", ".join(f"{second:.1f}" for second in seconds)
            print(f"{way:>8}: median {median(seconds):.1f} s of {told}")
        more = median(taken["flow"]) - median(taken["command"])
        print(f"the flow adds {more:.1f} s to a night of {images} images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=40)
    asked = parser.parse_args()
    main(asked.rounds, asked.images)
