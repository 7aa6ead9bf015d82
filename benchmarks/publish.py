"""Measure how long a night of a million images takes to publish.

    python -m benchmarks.publish [--shards 2000] [--rows 500] [--rounds 3]

makes a run as `benchmarks.query` does, a night of it, and publishes that as Iceberg tables (a
catalog in SQLite), then in the layout of Hive, before and after `compact`. Prints for each the
median and the range of the seconds, the size of the tables, and the most memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import padim_dist as padim
from benchmarks.query import RUN, make_run
from padim_dist.config import make_config
from tests.api.nights import group, made_night, put_night


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.shards, asked.rows, asked.rounds)


def measure(folder: Path, shards: int, rows: int, rounds: int) -> None:
    """Publish in turns, and print a line for each kind of table."""
    base = {"workspace": str(folder / "audit"), "archive": {"url": str(folder / "photos")}}
    warehouse = folder / "warehouse"
    warehouse.mkdir()
    catalog = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": str(warehouse)}
    sections: dict[str, dict[str, Any]] = {
        "Iceberg": {"iceberg": {"catalog": catalog}},
        "Hive": {"hive": str(folder / "tables")},
    }
    configs = {name: make_config({**base, "publish": one}) for name, one in sections.items()}
    make_run(base["workspace"], shards, rows)
    first = configs["Hive"]
    padim.judge(first, run=RUN, alpha=0.001)
    put_night(first, made_night(1, {"a": group(images=shards * rows)}, runs=[RUN]))
    for state in (f"{shards} files of {rows} rows", "compacted"):
        for name, config in configs.items():
            seconds = []
            for _ in range(rounds):
                start = time.perf_counter()
                found = padim.publish(config, night=1)
                seconds.append(time.perf_counter() - start)
            median, least, most = statistics.median(seconds), min(seconds), max(seconds)
            print(f"{state}: {name}, {found.images:,} images in {median:.1f} s", end="")
            print(f" ({least:.1f} to {most:.1f})", flush=True)
        padim.compact(first)
    files = (path for path in (folder / "tables").rglob("*.parquet"))
    print(f"layout of Hive: {sum(file.stat().st_size for file in files) / 1e6:.0f} MB")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
