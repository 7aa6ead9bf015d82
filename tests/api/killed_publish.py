"""Kill `padim-dist publish` at random moments, and count rows that are there twice.

    python -m tests.api.killed_publish [--kills 20] [--seed 0] [--nights 4] [--images 20000]

publishes nights as Iceberg tables (if PyIceberg is installed) and in the layout of Hive. For each
kill some nights are to be written again: a rule has changed, or the tables lack them. A process of
its own does it, and gets SIGKILL after a random share of the time that it takes undisturbed. Then
the tables are read: no row may be there twice, and no row of a night that was not to be written may
be missing. At the end an undisturbed call writes the rest, and the tables are compared with the
workspace.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import padim_dist as padim
from padim_dist.config import Config
from tests.api.published import add_night, check, publishing, read, rows_of
from tests.api.workspace import config_file


def publish_and_kill(
    folder: Path, kills: int, seed: int, nights: int = 4, images: int = 20_000
) -> tuple[int, int]:
    """Return the rows that were there twice, after any kill, and the kills that hit a process."""
    places = ["hive", *(["iceberg"] if find_spec("pyiceberg") else [])]
    config = publishing(folder, *places)
    file = config_file(config, folder / "audit.yaml")
    for number in range(1, nights + 1):
        add_night(config, number, [f"{number:016x}"], images=images)
    command = [sys.executable, "-m", "padim_dist", "publish", "-c", str(file), "--json"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    seconds = time.monotonic() - started
    rng = random.Random(seed)
    twice = hit = 0
    for kill in range(kills):
        for number in range(1, nights + 1):
            padim.judge(config, run=f"{number:016x}", review=100 + kill)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                process.wait(rng.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                hit += 1
            process.communicate()
        twice += sum(map(_twice, [config] * len(places), places))
        print(f"kill {kill + 1} of {kills}: {twice} rows twice so far", flush=True)
    padim.publish(config)
    for place in places:
        check(config, place)
    return twice, hit


def _twice(config: Config, place: str) -> int:
    """Return how many rows of a place are there more than once."""
    images = rows_of(read(config, place), ["run_id", "image_id"])
    regions = rows_of(read(config, place, "regions"), ["run_id", "image_id", "region"])
    counts = [*Counter(images).values(), *Counter(regions).values()]
    return sum(count - 1 for count in counts)


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--images", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        twice, hit = publish_and_kill(
            Path(folder), asked.kills, asked.seed, asked.nights, asked.images
        )
    print(f"{twice} rows twice over {asked.kills} kills, {hit} of which hit a process at work")
    sys.exit(twice > 0)


if __name__ == "__main__":
    main()
