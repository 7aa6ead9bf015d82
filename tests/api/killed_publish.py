"""Kill `padim-dist publish` at random moments, and count rows that are there twice.

    python -m tests.api.killed_publish [--kills 20] [--seed 0] [--nights 4] [--images 4000]

publishes nights as Iceberg tables (if PyIceberg is installed) and in the layout of Hive. Then
processes of their own publish all of them again. Each gets SIGKILL after a random share of the time
that an undisturbed one takes. After each kill the tables are read: no row may be there twice, and
none may be missing. In between, a later night goes on with a run of an earlier one, so that its
rows move. At the end an undisturbed call writes the rest, and the tables are compared with the
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
from importlib.util import find_spec
from pathlib import Path

import padim_dist as padim
from tests.api.published import add_night, check, publishing, read, rows_of
from tests.api.workspace import config_file


def publish_and_kill(
    folder: Path, kills: int, seed: int, nights: int = 4, images: int = 4000
) -> tuple[int, int]:
    """Return the rows that were there twice, after any kill, and the kills that hit a process.

    A process may end before it is killed; then another one is started.
    """
    places = ["hive", *(["iceberg"] if find_spec("pyiceberg") else [])]
    config = publishing(folder, *places)
    file = config_file(config, folder / "audit.yaml")
    for number in range(1, nights + 1):
        add_night(config, number, [f"{number:016x}"], images=images)
    command = [sys.executable, "-m", "padim_dist", "publish", "-c", str(file), "--all"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    seconds = time.monotonic() - started
    rng = random.Random(seed)
    twice = hit = 0
    has_moved = False
    for _ in range(3 * kills):
        if hit == kills:
            break
        if not has_moved and hit == kills // 2:
            add_night(config, nights + 1, [f"{nights:016x}"], images=images)
            has_moved = True
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                process.wait(rng.uniform(0.2, 0.9) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                hit += 1
            process.communicate()
        for place in places:
            images_there = rows_of(read(config, place), ["run_id", "image_id"])
            regions = rows_of(read(config, place, "regions"), ["run_id", "image_id", "region"])
            twice += len(images_there) - len({*images_there}) + len(regions) - len({*regions})
            # In the layout of Hive, a run that moves is missing for a moment.
            least = nights - 1 if place == "hive" and has_moved else nights
            assert len({*images_there}) >= least * images, f"rows are missing: {place}"
        print(f"{hit} kills: {twice} rows twice", flush=True)
    padim.publish(config)
    for place in places:
        check(config, place)
    return twice, hit


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--images", type=int, default=4000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        twice, hit = publish_and_kill(
            Path(folder), asked.kills, asked.seed, asked.nights, asked.images
        )
    print(f"{twice} rows twice over {hit} kills of a process at work")
    sys.exit(twice > 0)


if __name__ == "__main__":
    main()
