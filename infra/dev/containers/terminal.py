"""What the run prints, and commands whose output goes to a log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

console = Console(width=None if sys.stdout.isatty() else 110)


def say(text: str) -> None:
    """Print a line with the time."""
    console.print(f"[dim]{datetime.now(UTC):%H:%M:%S}[/]  {text}", highlight=False, soft_wrap=True)


def logged(title: str, command: Sequence[str | Path], log: Path) -> None:
    """Run a command and show its last line; its output is appended to a log.

    Raises
    ------
    SystemExit
        If it fails, after its last 20 lines.
    """
    began = time.monotonic()
    tail: list[str] = []
    with console.status(title) as status, log.open("a") as sink:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            tail = [*tail[-19:], line]
            status.update(f"{title}: {escape(line.strip()[:80])}")
        code = process.wait()
    if code:
        sys.exit(f"{''.join(tail)}containers: {title}: exit code {code}; see {log}")
    say(f"{title}: {time.monotonic() - began:.0f} s")
