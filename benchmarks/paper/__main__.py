"""Make the tables of the paper: `make paper DATA=...`.

    python -m benchmarks.paper --data ../shared/data [--weights resnet18=FILE ...] [--quick]

runs every system on every set in MVTec's layout and on the films in the folders, and writes the
tables into docs/paper.md. Results are kept in build/paper: a command that was killed goes on, and
tables of known results take seconds. ``--only II III`` makes some tables. Times and memory have
a command of their own: `python -m benchmarks.paper.cost`, for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.paper import tables
from benchmarks.paper.cells import Cells
from benchmarks.paper.experiments import R18, Experiments
from benchmarks.paper.films import find_films
from benchmarks.paper.page import Table, write_tables
from benchmarks.paper.protocol import no_gradients
from benchmarks.paper.sets import find_sets
from benchmarks.pictures import SHARED, WEIGHTS
from padim_dist.errors import ConfigError, PadimDistError, RequestError
from padim_dist.storage import Folder

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Measure and write the page."""
    description = __doc__.splitlines()[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=description)
    parser.add_argument("--data", nargs="+", type=Path, default=[SHARED / "data"])
    parser.add_argument("--weights", nargs="+", default=[], metavar="BACKBONE=FILE")
    parser.add_argument("--quick", action="store_true", help="train the autoencoder for minutes")
    parser.add_argument("--only", nargs="+", choices=("I", "II", "III", "IV", "V", "VI"))
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "paper")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "paper.md")
    asked = parser.parse_args()
    no_gradients()
    try:
        make(asked)
    except PadimDistError as error:
        sys.exit(f"error: {error}")


def make(asked: argparse.Namespace) -> None:
    """Make the tables that are asked for, and write each as soon as it is made."""
    sets, films = find_sets(asked.data), find_films(asked.data)
    if not sets and not films:
        folders = ", ".join(str(folder) for folder in asked.data)
        raise RequestError(
            f"{folders}: no set in MVTec's layout (train/good, test/*) and no films are there; "
            "give folders that are sets or contain some"
        )
    console = Console()
    names = [*(one.name for one in sets), *(one.name for one in films)]
    console.print(f"sets: {', '.join(names)}", highlight=False)
    cells = Cells(Folder(str(asked.build)), console)
    run = Experiments(cells, asked.build, read_weights(asked.weights), asked.quick)
    works: dict[str, Callable[[], Table]] = {
        "I": lambda: tables.table_1(run, sets),
        "II": lambda: tables.table_2(run, sets),
        "III": lambda: tables.table_3(run, sets),
        "IV": lambda: tables.table_4(run, films),
        "V": lambda: tables.table_5(run, sets),
        "VI": lambda: tables.table_6(run, sets),
    }
    for number in asked.only or works:
        if sets or number == "IV":
            write_tables(asked.page, [works[number]()])
            console.print(f"table {number}: {asked.page}", highlight=False)


def read_weights(given: Sequence[str]) -> dict[str, Path]:
    """Return files of weights by backbone; ResNet-18's are those beside the project, if there.

    Raises
    ------
    ConfigError
        If an entry is no ``BACKBONE=FILE``, or its file does not exist.
    """
    weights = {R18: WEIGHTS} if WEIGHTS.exists() else {}
    for entry in given:
        backbone, equals, path = entry.partition("=")
        if not equals or not Path(path).is_file():
            raise ConfigError(
                f"--weights {entry!r} names no file of weights; give BACKBONE=FILE, e.g. "
                "wide_resnet50_2=wide_resnet50_2.pth"
            )
        weights[backbone] = Path(path)
    return weights


if __name__ == "__main__":
    main()
