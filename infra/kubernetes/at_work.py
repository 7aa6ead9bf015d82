"""Count the drivers at work in a pod; `upgrade` pipes this file into pods of any version.

python at_work.py runs PID        flow runs whose processes PID has started
python at_work.py clients PORT    clients of the Dask scheduler whose HTTP server has this port
"""

from __future__ import annotations

import re
import sys
from urllib.request import urlopen

import psutil


def main(what: str, number: int) -> int:
    """Return how many there are."""
    if what == "runs":
        # Prefect gives each flow run a process: python -m prefect.engine
        children = psutil.Process(number).children(recursive=True)
        engines = {"prefect.engine", "prefect.flow_engine"}
        return sum(bool(engines & set(child.cmdline())) for child in children)
    with urlopen(f"http://127.0.0.1:{number}/metrics", timeout=10) as answer:
        (found,) = re.findall(r"^dask_scheduler_clients (\S+)$", answer.read().decode(), re.M)
    return int(float(found))


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2])))
