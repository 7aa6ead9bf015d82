"""Worker processes, as the system shows them."""

from __future__ import annotations

from contextlib import suppress

import psutil


def worker_processes(driver: psutil.Process) -> list[psutil.Process]:
    """Those of a driver; its other children track resources, or are git, lscpu, ..."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in driver.children():
            with suppress(psutil.NoSuchProcess):
                if "--multiprocessing-fork" in child.cmdline():
                    found.append(child)
    return found
