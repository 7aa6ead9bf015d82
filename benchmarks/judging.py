"""Measure how long another rule takes on a finished run of a million images.

    python -m benchmarks.judging [--shards 2000] [--rows 500] [--rounds 5]

makes a run as `benchmarks.query` does, without heatmaps, so no region is looked for, and applies
rules to it in turns, before and after `compact`. Prints for each rule the median and the range of
the seconds that `judge` takes, and the images that it flags.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import padim_dist as padim
from benchmarks.query import make_run
from padim_dist.config import Config, make_config

RULES: tuple[dict[str, Any], ...] = (
    {"review": 50},
    {"review": 10_000},
    {"alpha": 0.01},
    {"alpha": "auto"},
    {"fdr": 0.1},
    {"false_alarms_per_run": 5000},
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_config({"workspace": folder, "archive": {"url": f"{folder}/archive"}})
        make_run(folder, asked.shards, asked.rows)
        measure(f"{asked.shards} files of {asked.rows} rows", config, asked.rounds)
        padim.compact(config)
        measure("compacted", config, asked.rounds)


def measure(title: str, config: Config, rounds: int) -> None:
    """Apply the rules in turns, and print a line for each."""
    seconds: dict[int, list[float]] = {}
    flagged: dict[int, int | None] = {}
    for _ in range(rounds):
        for number, rule in enumerate(RULES):
            start = time.perf_counter()
            flagged[number] = padim.judge(config, **rule).flagged
            seconds.setdefault(number, []).append(time.perf_counter() - start)
    print(title)
    for number, rule in enumerate(RULES):
        own = sorted(seconds[number])
        median = statistics.median(own)
        print(
            f"  {rule}: {median:.2f} s ({own[0]:.2f} to {own[-1]:.2f}), {flagged[number]:,} flagged"
        )


if __name__ == "__main__":
    main()
