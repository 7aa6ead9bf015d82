"""Interleaved runs, medians, ratios with their spread, and the table of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import psutil
import torch
import torchvision
from rich.console import Console
from rich.table import Table

from padim_dist.engine.cluster.environment import ALLOCATOR

ROOT = Path(__file__).parents[1]
Runs = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """A figure: the median, the lowest and the highest of its runs."""

    section: str
    name: str
    value: float
    unit: str
    low: float
    high: float
    note: str = ""


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds that a work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleave(rounds: int, works: Mapping[str, Callable[[], float]]) -> Runs:
    """Run some works in turns, so that other load affects all of them; return their figures."""
    found: Runs = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return found


def figure(section: str, name: str, values: Sequence[float], unit: str, note: str = "") -> Row:
    """Return the row of repeated runs."""
    return Row(section, name, median(values), unit, min(values), max(values), note)


def ratio(
    section: str, name: str, mine: Sequence[float], theirs: Sequence[float], note: str = ""
) -> Row:
    """Return the row of the ratio of two medians, with the spread of the ratios by round."""
    each = [a / b for a, b in zip(mine, theirs, strict=True)]
    return Row(section, name, median(mine) / median(theirs), "x", min(each), max(each), note)


def run(command: Sequence[str], *, as_installed: bool = False) -> dict[str, Any]:
    """Run a script and return the JSON of its last line.

    Parameters
    ----------
    command : sequence of str
        The script.
    as_installed : bool
        Whether to run it without the allocator settings of our workers, as other software
        runs by default.

    Raises
    ------
    RuntimeError
        If it fails, with the end of its output.
    """
    left_out = ALLOCATOR if as_installed else ()
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def script(
    name: str, *arguments: str, python: str = sys.executable, as_installed: bool = False
) -> dict[str, Any]:
    """Run a module of these benchmarks in its own process and return the JSON that it prints."""
    command = [python, "-W", "ignore", "-m", f"benchmarks.{name}", *arguments]
    return run(command, as_installed=as_installed)


def peak_memory(process: int | str = "self") -> int:
    """Return the peak resident memory of a process in bytes; 0 if it has ended.

    Not ru_maxrss, which includes the peak of the parent process.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    _, found, rest = status.partition("VmHWM:")
    return 1024 * int(rest.split()[0]) if found else 0


@dataclass
class Proportional:
    """Peaks of the memory of this process and of those that it starts, sampled in a thread.

    It is the proportional set size (PSS): a page that several processes share counts in equal parts
    for each of them, so libraries and what forks share count once in the sum.

    Attributes
    ----------
    worker, driver, together : int
        Peaks in bytes: of the largest process that this one has started, of this one, of all.
    own : int
        Peak of the memory that the largest process which this one has started shares with none.
    """

    worker: int = 0
    driver: int = 0
    together: int = 0
    own: int = 0

    @contextmanager
    def sampled(self, interval: float = 0.2) -> Iterator[None]:
        """Sample during the block."""
        done = Event()
        thread = Thread(target=self._sample, args=(done, interval), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample(self, done: Event, interval: float) -> None:
        me = psutil.Process()
        while not done.wait(interval):
            own, others = me.memory_full_info(), list[Any]()
            for process in me.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it has ended
                    others.append(process.memory_full_info())
            shares = [each.pss for each in others]
            self.driver = max(self.driver, own.pss)
            self.worker = max(self.worker, *shares, 0)
            self.own = max(self.own, *(each.uss for each in others), 0)
            self.together = max(self.together, own.pss + sum(shares))


def machine() -> dict[str, Any]:
    """Return a description of the machine and the versions."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table(box=None, pad_edge=False)
    for title in ("section", "figure", "median", "", "lowest", "highest", "note"):
        is_number = title in ("median", "lowest", "highest")
        table.add_column(title, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        numbers = [f"{value:,.4g}" for value in (row.value, row.low, row.high)]
        table.add_row(row.section, row.name, numbers[0], row.unit, *numbers[1:], row.note)
    console.print(table)


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write the table as JSON."""
    path.write_text(
        json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1)
    )
