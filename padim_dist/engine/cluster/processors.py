"""What Linux says of processors: their names, and their instruction sets.

These decide how fast products of small numbers are.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

from distributed import Client

_SAYS = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Return the name of this machine's processor."""
    return _said("model name") or platform.processor() or platform.machine()


def instructions() -> frozenset[str]:
    """Return the instruction sets of this machine's processor, as Linux names those of x86.

    Empty on other systems and processors.
    """
    return frozenset(_said("flags").split())


def instructions_of_workers(client: Client) -> list[frozenset[str]]:
    """Return the instruction sets of each worker's processor."""
    found: dict[str, frozenset[str]] = client.run(instructions)
    return list(found.values())


def _said(field: str) -> str:
    """Return what Linux says of the first processor; empty on other systems."""
    with suppress(OSError):
        for line in _SAYS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""
