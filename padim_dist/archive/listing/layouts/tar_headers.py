"""The headers of a tar file, and where they stop making sense."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

_BLOCK = tarfile.BLOCKSIZE
# What Python's tarfile raises for headers that it cannot make sense of.
_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)
_MOST = 2**24
"""Bytes of a long name or of pax records: a damaged header may ask for any number."""
_LARGEST = 2**62
"""Of a member, in bytes; more is no size."""


class Headers:
    """Members of a tar file, by its headers alone.

    Python's tarfile takes a bad header for the end of the file. Here, what lies at that
    place tells an end from a damage.

    Parameters
    ----------
    file : file object
        The tar file: opened for reading, and able to seek.

    Attributes
    ----------
    size : int
        Bytes of the file.
    offset : int
        Where the next header should be; after the iteration, where it stopped.
    tail : int or None
        After the iteration: where the damage begins; None for a proper end (two blocks of
        zeros, or the end of the file).
    goes_on : bool
        After the iteration: whether other data lie behind a proper end, as in tar files that
        were put one after the other. They are not read, as tar does not read them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.size = file.seek(0, io.SEEK_END)
        self.offset = 0
        self.tail: int | None = None
        self.goes_on = False
        self._file = file

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        self._file.seek(0)
        try:
            for member in self._members():
                yield member
                if self.offset >= self.size:
                    return
        except _DAMAGE:
            pass
        self._look_at_the_end()

    def _members(self) -> Iterator[tarfile.TarInfo]:
        with tarfile.TarFile(
            fileobj=_Bounded(self._file),  # type: ignore[arg-type]
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if tar.offset <= self.offset or not 0 <= member.size <= _LARGEST:
                    return
                self.offset = tar.offset
                yield member

    def _look_at_the_end(self) -> None:
        self._file.seek(self.offset)
        if any(self._file.read(_BLOCK)) or any(self._file.read(_BLOCK)):
            self.tail = self.offset
            return
        while block := self._file.read(_MOST):
            if block.strip(b"\0"):
                self.goes_on = True
                return


class _Bounded:
    """A file that refuses to read more than a header can need."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)
