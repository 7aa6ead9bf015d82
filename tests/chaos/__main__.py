"""``python -m tests.chaos``: seeded trials which check that faults change no result."""

from __future__ import annotations

import argparse
import logging
import sys

from rich.console import Console

from tests.chaos.laboratory import KINDS, TWO_WORKERS, Laboratory, Trial
from tests.chaos.table import make_table
from tests.chaos.ward import WARD_KINDS, Ward

_MOST_SHOWN = 5


def main() -> int:
    """Run the trials and print the table; return 1 if a result differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--trials", type=int, default=2, help="trials of each kind")
    parser.add_argument("--only", default="", help="run only kinds with this in their names")
    parser.add_argument("--seed", type=int, default=0, help="seed of archive and first trial")
    asked = parser.parse_args()
    logging.getLogger("padim_dist").setLevel(logging.ERROR)
    console = Console(width=None if sys.stdout.isatty() else 140)
    seeds = range(asked.seed, asked.seed + asked.trials)
    trials: list[Trial] = []
    for place, kinds in ((Laboratory, KINDS), (Ward, WARD_KINDS)):
        if wanted := [kind for kind in kinds if asked.only in kind]:
            with place(asked.seed) as patients:
                for seed in seeds:
                    for kind in wanted:
                        trials.append(patients.try_(kind, seed))
                        show(console, trials[-1])
    if not trials:
        parser.error(f"no kind has {asked.only!r} in its name: {', '.join((*KINDS, *WARD_KINDS))}")
    console.print(make_table(trials))
    unharmed = {trial.kind for trial in trials} - {
        t.kind for t in trials if t.faults or t.kind == TWO_WORKERS
    }
    for kind in sorted(unharmed):
        console.print(f"no trial of {kind!r} had a fault: try other seeds", markup=False)
    return int(bool(unharmed) or any(trial.differences for trial in trials))


def show(console: Console, trial: Trial) -> None:
    """Print what happened in a trial."""
    happened = ", ".join(f"{name} {count}" for name, count in trial.faults.items())
    console.print(
        f"{trial.kind}, seed {trial.seed}: {trial.seconds:.1f} s, {happened or 'no fault'}, "
        f"{len(trial.differences)} differences",
        markup=False,
        soft_wrap=True,
    )
    for difference in trial.differences[:_MOST_SHOWN]:
        console.print(f"  {difference}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
