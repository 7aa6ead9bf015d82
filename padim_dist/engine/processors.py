"""Instruction sets of processors, which decide how fast products of small numbers are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from distributed import Client


def instructions() -> frozenset[str]:
    """Return the instruction sets of this machine's processor, as Linux names them.

    Empty on other systems.
    """
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return frozenset(value.split())
    return frozenset()


def instructions_of_workers(client: Client) -> list[frozenset[str]]:
    """Return the instruction sets of each worker's processor."""
    found: dict[str, frozenset[str]] = client.run(instructions)
    return list(found.values())
