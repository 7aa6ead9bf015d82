"""Single bad objects in a good archive: each is one row, and no other row changes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

VICTIM = "b/test/good/02.png"
EXTRA = "b/test/good/scans.jpg"
_SCANS = 20_000


@dataclass(frozen=True)
class BadObject:
    """A bad object.

    Attributes
    ----------
    path : str
        Its path in the archive.
    statuses : tuple of str
        What its row may say.
    before, after : callable or None
        What spoils the archive, given its folder, before and after the index.
    in_store : bool
        Whether it is bad in an object store, where a proxy makes it slow.
    hangs : bool
        Whether reading it on disk does not end.
    """

    path: str = VICTIM
    statuses: tuple[str, ...] = ("timeout",)
    before: Callable[[Path], None] | None = None
    after: Callable[[Path], None] | None = None
    in_store: bool = False
    hangs: bool = False


def _make_pipe(archive: Path) -> None:
    (archive / VICTIM).unlink()
    os.mkfifo(archive / VICTIM)


def _write_scans(archive: Path) -> None:
    (archive / EXTRA).write_bytes(jpeg_of_scans(_SCANS))


def jpeg_of_scans(scans: int, side: int = 4096) -> bytes:
    """Return a progressive JPEG file that repeats its last scan; decoding it takes minutes."""
    sink = io.BytesIO()
    Image.new("L", (side, side), 99).save(sink, "JPEG", progressive=True)
    data = sink.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + data[-2:]


BAD_OBJECTS = {
    "named pipe": BadObject(statuses=("unavailable",), after=_make_pipe),
    "read that blocks": BadObject(hangs=True),
    "1 byte a second": BadObject(in_store=True),
    "JPEG of 20,000 scans": BadObject(EXTRA, ("timeout", "unreadable"), before=_write_scans),
}
