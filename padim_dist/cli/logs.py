"""Log messages and events on stderr: lines for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.text import Text

from padim_dist.cli.terminal import Terminal
from padim_dist.events import Event, Listener, Progress
from padim_dist.redaction import redacted

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
            recent = time.monotonic() - at < 5.0
            if event == before or (recent and not ends):
                return
            written[event.stage] = event, time.monotonic()
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        _write(stream, {"event": name, **asdict(event)})

    return listen


class LogHandler(logging.Handler):
    """Writes log records as lines that can be copied, or as JSON with ``"event": "log"``."""

    def __init__(self, terminal: Terminal, as_json: bool) -> None:
        super().__init__()
        self._terminal, self._as_json = terminal, as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        level, message = record.levelname.lower(), self._terminal.text(self.format(record))
        if self._as_json:
            _write(sys.stderr, {"event": "log", "level": level, "message": message})
        else:
            line = Text.assemble((f"{level}:", _STYLES.get(level, "bold red")), " ", message)
            self._terminal.err.print(line, soft_wrap=True, highlight=False)


def write_raw_line(stream: TextIO, line: str) -> None:
    """Write a line that a C library or a worker printed."""
    _write(stream, {"event": "log", "level": "info", "message": redacted(line)})


def _write(stream: TextIO, values: dict[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    with suppress(OSError):  # if nobody reads it any more, or the disk is full, the work goes on
        stream.write(json.dumps({"time": now, **values}) + "\n")
        stream.flush()
