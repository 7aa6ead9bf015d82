"""Parquet files of a workspace: a damaged one is an error that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.storage import Folder

_DAMAGE = ("thrift", "ecompress", "orrupt", "nexpected end", "ncompressed")
"""Words of Arrow's messages about content that it reports as errors of the system."""


@contextmanager
def open_parquet(folder: Folder, path: str, advice: str) -> Iterator[pq.ParquetFile]:
    """Open a file to read it, inside the block.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFileError
        If it cannot be read as Parquet, e.g. since its end is cut off.
    """
    with reports_damage(folder.at(path), advice):
        file = folder.fs.open(folder.at(path), "rb")
        with file, pq.ParquetFile(file) as parquet:
            yield parquet


@contextmanager
def reports_damage(file: str, advice: str) -> Iterator[None]:
    """Turn Arrow's errors about the content of a file into a `DamagedFileError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and not _is_damage(error):
            raise  # of the store
        reason = str(error).splitlines()[0].rstrip(".")
        raise DamagedFileError(file, f"it is not Parquet ({reason})", advice) from None


def _is_damage(error: OSError) -> bool:
    return error.errno is None and any(word in str(error) for word in _DAMAGE)
