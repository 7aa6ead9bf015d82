"""Measure speed, memory, scale and storage: `make bench`.

    python -m benchmarks [--only limit core ...] [--rounds 3] [--rows 10000000]

prints one table and writes it as JSON. The other projects need a separate environment
(``.venv-bench``), which `make bench` makes.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import core, limit, memory, peers, scale, storage, stub
from benchmarks.measure import Row, machine, save, show
from benchmarks.pictures import find_pictures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sections = ("core", "limit", "stub", "peers", "storage", "memory", "scale")
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of section scale")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    asked = parser.parse_args()
    logging.getLogger("padim_dist").setLevel(logging.ERROR)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    console, rows = Console(width=160), list[Row]()
    with tempfile.TemporaryDirectory(prefix="padim-dist-bench-") as folder:
        place = Path(folder)
        pictures = find_pictures(place)
        console.print(f"{machine()}\n{pictures.what}")
        works: dict[str, Callable[[], list[Row]]] = {
            "core": lambda: core.measure(asked.rounds),
            "limit": lambda: limit.measure(pictures, place, asked.rounds),
            "stub": lambda: stub.measure(place / "stub", asked.rounds),
            "peers": lambda: peers.measure(pictures, place, asked.rounds),
            "storage": lambda: storage.measure(pictures, place),
            "memory": lambda: memory.measure(pictures, place),
            "scale": lambda: scale.measure(place, asked.rows),
        }
        for name in asked.only:
            found = works[name]()
            show(found, console)
            rows += found
            save(asked.json, rows)
    console.print(f"as JSON: {asked.json}")


if __name__ == "__main__":
    main()
