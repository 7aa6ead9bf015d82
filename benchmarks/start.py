"""Measure the start: seconds from the shell to the first images of a score and to its end.

    python -m benchmarks.start [--rounds 5] [--trees . /path/of/another/checkout]

fits MVTec AD's bottles once, and scores all 292 images with two workers, each time in a new
workspace and by a script like the one that pip installs. Checkouts take turns. Prints medians, and
the memory that a worker has by itself (USS) when the last image is done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.measure import ROOT, Row, figure, interleave, show
from benchmarks.pictures import Pictures, find_pictures

_SCRIPT = """
import sys
from padim_dist.cli.app import main

def note(stream):
    def listen(event):
        import time
        if type(event).__name__ != "Progress" or event.stage != "score":
            return
        if event.done and "first" not in seen:
            seen["first"] = time.time() - began
        if event.done == event.total and "all" not in seen:
            seen["all"] = time.time() - began
            seen["own"] = own()
    return listen

def own():
    import psutil
    found = []
    for process in psutil.Process().children(recursive=True):
        memory = process.memory_full_info()
        if memory.rss > 200 * 2**20 and not process.children():
            found.append(memory.uss)
    return max(found)

if __name__ == "__main__":
    import atexit, json, os
    from padim_dist.cli import command
    began, seen = float(os.environ["BEGAN"]), {}
    command.json_listener = note
    atexit.register(lambda: print(json.dumps(seen)))
    main()
"""
_FIGURES = {
    "first": ("from the shell to the first images", "s", 1.0),
    "all": ("from the shell to all 292 images", "s", 1.0),
    "end": ("from the shell to the end of the command", "s", 1.0),
    "own": ("own memory of a worker", "GiB", float(2**30)),
}


def measure(
    pictures: Pictures, place: Path, rounds: int, trees: tuple[Path, ...] = (ROOT,)
) -> list[Row]:
    """Return the rows of the section."""
    (place / "padim-dist").write_text(_SCRIPT)
    options = [
        "--set",
        f"archive.url={pictures.root}",
        "--set",
        f"model.weights={pictures.weights}",
    ]
    options += ["--set", "score.splits=[train, test]", "--set", "cluster.workers=2", "--log-json"]
    config = ROOT / "configs" / "mvtec_bottle.yaml"

    def start(tree: Path, command: str, workspace: Path) -> dict[str, float]:
        words = [sys.executable, str(place / "padim-dist"), command, "-c", str(config), *options]
        environment = {**os.environ, "PYTHONPATH": str(tree), "BEGAN": repr(time.time())}
        began = time.perf_counter()
        done = subprocess.run(
            [*words, "--set", f"workspace={workspace}"],
            capture_output=True,
            text=True,
            env=environment,
            cwd=place,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return found | {"end": time.perf_counter() - began}

    start(trees[0], "fit", place / "fitted")
    found: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}

    def once(tree: Path) -> float:
        shutil.copytree(place / "fitted", place / "scored")
        found[tree].append(start(tree, "score", place / "scored"))
        shutil.rmtree(place / "scored")
        return 0.0

    interleave(rounds, {str(tree): lambda tree=tree: once(tree) for tree in trees})
    rows = []
    for tree, runs in found.items():
        note = str(tree) if len(trees) > 1 else ""
        for key, (name, unit, by) in _FIGURES.items():
            rows.append(figure("start", name, [each[key] / by for each in runs], unit, note))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trees", type=Path, nargs="+", default=(ROOT,))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="padim-dist-start-") as folder:
        pictures = find_pictures(Path(folder))
        trees = tuple(tree.resolve() for tree in asked.trees)
        show(measure(pictures, Path(folder), asked.rounds, trees), Console(width=160))


if __name__ == "__main__":
    main()
