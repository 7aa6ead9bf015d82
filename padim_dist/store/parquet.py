"""Parquet files of a workspace: a damaged one is an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder

_DAMAGE = ("thrift", "ecompress", "orrupt", "nexpected end", "ncompressed", "CRC checksum")
"""Words of Arrow's messages about content that it reports as errors of the system."""
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
    with reports_parquet_damage(folder.at(path), advice):
        file = folder.fs.open(folder.at(path), "rb")
        with file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            yield parquet


@contextmanager
def reports_parquet_damage(file: str, advice: str) -> Iterator[None]:
    """Turn Arrow's errors about the content of a file into a `DamagedFileError`."""
    try:
        yield
    except MemoryError:  # Arrow's is an ArrowException too
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not _is_damage(error):
            raise  # of the store
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


def _is_damage(error: OSError) -> bool:
    return error.errno is None and any(word in str(error) for word in _DAMAGE)
