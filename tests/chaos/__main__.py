"""``python -m tests.chaos``: seeded trials which check that faults change no result."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from tests.chaos.laboratory import KINDS, Laboratory, Trial
from tests.chaos.table import make_table

_MOST_SHOWN = 5


def main() -> int:
    """Run the trials and print the table; return 1 if a result differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="trials of each kind")
    parser.add_argument("--only", choices=KINDS, help="run only this kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of archive and first trial")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    trials: list[Trial] = []
    with Laboratory(asked.seed) as laboratory:
        for seed in range(asked.seed, asked.seed + asked.trials):
            for kind in [asked.only] if asked.only else KINDS:
                trial = laboratory.try_(kind, seed)
                trials.append(trial)
                console.print(
                    f"{kind}, seed {seed}: {trial.seconds:.1f} s, {trial.faults.total()} faults, "
                    f"{len(trial.differences)} differences"
                )
                for difference in trial.differences[:_MOST_SHOWN]:
                    console.print(f"  {difference}", markup=False, soft_wrap=True)
    console.print(make_table(trials))
    return int(any(trial.differences for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
