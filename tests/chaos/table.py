"""The printed table of trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from rich.table import Table

from tests.chaos.laboratory import Trial


def make_table(trials: Sequence[Trial]) -> Table:
    """Return a table with a row for each kind of fault: trials, faults, seconds, differences."""
    table = Table("fault", "trials", "what happened", "median s", "longest s", "differences")
    for kind in dict.fromkeys(trial.kind for trial in trials):
        own = [trial for trial in trials if trial.kind == kind]
        faults = sum((trial.faults for trial in own), Counter[str]())
        parts = ", ".join(f"{name} {count}" for name, count in sorted(faults.items()))
        seconds = [trial.seconds for trial in own]
        table.add_row(
            kind,
            str(len(own)),
            f"{faults.total()} ({parts})" if faults else "-",
            f"{median(seconds):.1f}",
            f"{max(seconds):.1f}",
            str(sum(len(trial.differences) for trial in own)),
        )
    return table
