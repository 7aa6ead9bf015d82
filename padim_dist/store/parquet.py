"""Parquet files of a workspace: a damaged one is an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder

_THREADS = 8
COMPACT_ADVICE = (
    "Restore it from a copy of the workspace. If there is none, remove the folder of the run and "
    "run 'padim-dist score' again: its images are scored again"
)


@contextmanager
def open_parquet(folder: Folder, path: str, advice: str) -> Iterator[pq.ParquetFile]:
    """Open a file to read it, inside the block; pages that have a checksum are verified.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFileError
        If it cannot be read as Parquet, e.g. since its end is cut off.
    """
    file = folder.fs.open(folder.at(path), "rb")
    with (
        file,
        reports_parquet_damage(folder.at(path), advice, source := _Source(file)),
        pq.ParquetFile(source, page_checksum_verification=True) as parquet,
    ):
        yield parquet


class _Source:
    """A file that remembers an error of its store: all else that Arrow raises is about content."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        try:
            return self._file.read(size)
        except Exception as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def reports_parquet_damage(file: str, advice: str, source: _Source | None = None) -> Iterator[None]:
    """Turn Arrow's errors about the content of a file into a `DamagedFileError`.

    Arrow reports some of them as OSError without a number, which errors of stores may lack, too:
    these are known to `source`, the opened file; None: its content is in memory.
    """
    try:
        yield
    except MemoryError:  # Arrow's is an ArrowException too
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if (source and source.error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise DamagedFileError(file, f"it is not Parquet ({reason})", advice) from None


def table_advice(run: str) -> str:
    """Return what to do about a damaged table of a run, given its URL."""
    return (
        "Restore it from a copy of the workspace. Or remove the files of its shard in scores/ and "
        "regions/, and run 'padim-dist score' again with the settings of the run: it scores that "
        f"shard again. After 'padim-dist compact' remove {run} instead: all is scored again"
    )


def find_damaged(folder: Folder, paths: Sequence[str], advice: str) -> list[DamagedFileError]:
    """Look at the end of each file, where Parquet describes it; return what is damaged."""

    def look(path: str) -> DamagedFileError | None:
        try:
            with open_parquet(folder, path, advice):
                return None
        except DamagedFileError as error:
            return error
        except FileNotFoundError:
            return DamagedFileError(folder.at(path), "it is missing", advice)

    with ThreadPoolExecutor(_THREADS) as pool:
        return [error for error in pool.map(look, paths) if error]
