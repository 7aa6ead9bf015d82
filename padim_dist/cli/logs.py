"""Log messages and events on stderr: lines for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from padim_dist.events import Event, Listener, Progress

_SECONDS_BETWEEN_PROGRESS = 5.0
_STYLES = {"debug": "dim", "info": "dim", "warning": "bold yellow", "error": "bold red"}


def json_listener(stream: TextIO) -> Listener:
    """Return a listener that writes every event; progress at most every five seconds.

    Examples
    --------
    >>> import sys
    >>> from padim_dist.events import TaskStarted
    >>> json_listener(sys.stdout)(TaskStarted("score", "shard 3", "tcp://w"))  # doctest: +ELLIPSIS
    {"time": "...", "event": "task_started", "stage": "score", "task": "shard 3", ...}
    """
    written: dict[str, tuple[Progress, float]] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            before, at = written.get(event.stage, (None, -1e9))
            ends = event.total > 0 and event.done == event.total
            recent = time.monotonic() - at < _SECONDS_BETWEEN_PROGRESS
            if event == before or (recent and not ends):
                return
            written[event.stage] = event, time.monotonic()
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        _write(stream, {"event": name, **asdict(event)})

    return listen


class JsonHandler(logging.Handler):
    """Writes log records as JSON lines, with ``"event": "log"``."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        level, message = record.levelname.lower(), self.format(record)
        _write(self._stream, {"event": "log", "level": level, "message": message})


class TerminalHandler(logging.Handler):
    """Writes log records as ``level: message``, in lines that can be copied."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        level = record.levelname.lower()
        line = Text.assemble(
            (f"{level}:", _STYLES.get(level, "bold red")), " ", self.format(record)
        )
        self._console.print(line, soft_wrap=True, highlight=False)


def _write(stream: TextIO, values: dict[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    stream.write(json.dumps({"time": now, **values}) + "\n")
    stream.flush()
