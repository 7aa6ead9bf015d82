"""Measure reviews: `label --from` and `evaluate` of a run with a million images.

    python -m benchmarks.labels [--shards 10] [--rows 100000] [--reviews 10000]

makes the run of `benchmarks.query`, without labels and masks, and reviews some of its images.
Prints the seconds of each call, and its processor seconds, which depend less on other load.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.query import RUN, make_run
from padim_dist.api.labels.evaluate import evaluate
from padim_dist.api.labels.label import label
from padim_dist.api.sql.views import connect
from padim_dist.config import make_config


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--reviews", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_config({"workspace": folder, "archive": {"url": f"{folder}/archive"}})
        make_run(folder, asked.shards, asked.rows)
        query = f"SELECT image_id FROM scores USING SAMPLE {asked.reviews} ROWS"
        ids = [image_id for (image_id,) in connect(config).sql(query).fetchall()]
        reviews = [
            {"image_id": image_id, "verdict": "ok" if place % 50 else "defect"}
            for place, image_id in enumerate(ids)
        ]
        file = Path(folder, "reviews.json")
        file.write_text(json.dumps({"padim_dist": "reviews", "run": RUN, "reviews": reviews}))
        timed("label --from", lambda: label(config, file=str(file)))
        for _ in range(3):
            timed("evaluate", lambda: evaluate(config))


def timed(name: str, work: Callable[[], object]) -> None:
    """Run work; print how long it took."""
    started, before = time.monotonic(), time.process_time()
    work()
    seconds, busy = time.monotonic() - started, time.process_time() - before
    print(f"{name:<12} {seconds:6.2f} s, {busy:6.2f} of CPU", flush=True)


if __name__ == "__main__":
    main()
