"""Count the drivers at work in a pod; `upgrade` pipes this file into pods of any version.

python at_work.py runs PID        flow runs whose processes PID has started
python at_work.py clients PORT    clients of the Dask scheduler whose HTTP server has this port
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from urllib.request import urlopen

import psutil


def flow_runs(server: int) -> list[psutil.Process]:
    """Return the processes of the flow runs that the process with id `server` has started.

    Prefect gives each flow run a process: python -m prefect.engine
    """
    engines = {"prefect.engine", "prefect.flow_engine"}
    found = []
    for child in psutil.Process(server).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended since the list was made
            if engines & set(child.cmdline()):
                found.append(child)
    return found


def main(what: str, number: int) -> int:
    """Return how many there are."""
    if what == "runs":
        return len(flow_runs(number))
    with urlopen(f"http://127.0.0.1:{number}/metrics", timeout=10) as answer:
        (found,) = re.findall(r"^dask_scheduler_clients (\S+)$", answer.read().decode(), re.M)
    return int(float(found))


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
