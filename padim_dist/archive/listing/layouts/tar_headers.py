"""Headers of a tar file, and the place where they are damaged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

_BLOCK = tarfile.BLOCKSIZE
# Errors that Python's tarfile raises for damaged headers.
_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)
_MOST = 2**24
"""Maximum bytes of a long name or of pax records; a damaged header may state any number."""
_LARGEST = 2**62
"""Maximum bytes of a member; a larger size is damage."""


class Headers:
    """Members of a tar file, from its headers only.

    Python's tarfile takes a damaged header for the end of the file. `Headers` reads the bytes at
    that place to tell damage from an end.

    Parameters
    ----------
    file : file object
        The tar file, opened for reading and seekable.

    Attributes
    ----------
    size : int
        Size of the file in bytes.
    offset : int
        Byte at which the next header is expected; after the iteration, where it stopped.
    tail : int or None
        After the iteration: first damaged byte; None for a proper end (two blocks of zeros, or
        the end of the file).
    goes_on : bool
        After the iteration: whether data follow a proper end, as in concatenated tar files. They
        are not read; tar does not read them either.
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
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all of them
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
    """A file that refuses reads larger than a header."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)
