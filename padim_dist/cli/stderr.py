"""What C libraries and worker processes write to stderr, as JSON lines.

libjpeg prints "Corrupt JPEG data: ..." by itself, and so may other libraries. Python's `sys.stderr`
does not see that: it goes to the file descriptor, which worker processes inherit.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def collected(write: Callable[[TextIO, str], None]) -> Iterator[None]:
    """Give each line that is written to file descriptor 2 to `write`, with the real stderr.

    `sys.stderr` keeps writing to the real one. If it has been replaced, nothing is collected.
    `write` is to raise no error if nobody reads the real one any more (``2>&1 | head``): lines
    have to be read until the end, since a full pipe blocks the workers.
    """
    try:
        is_plain = sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        is_plain = False
    if not is_plain:
        yield
        return
    before, kept = sys.stderr, os.dup(2)
    before.flush()
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    real = os.fdopen(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors)
    sys.stderr = real
    last = uuid.uuid4().hex.encode()
    collector = threading.Thread(target=_collect, args=(source, last, real, write), daemon=True)
    collector.start()
    try:
        yield
    finally:
        try:
            with suppress(OSError):
                os.write(2, b"\n" + last + b"\n")  # all that came before it is written first
            collector.join()
        finally:
            os.dup2(kept, 2)
            sys.stderr = before
            with suppress(OSError):
                real.close()


def _collect(source: int, last: bytes, real: TextIO, write: Callable[[TextIO, str], None]) -> None:
    with open(source, "rb") as lines:
        for line in lines:
            if line.strip() == last:
                return
            if text := line.decode(errors="replace").strip():
                write(real, text)
