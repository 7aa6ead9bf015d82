"""Plain Parquet files in the layout of Hive: ``images/day=2026-11-27/<run_id>.parquet``.

A run is one file, whose name says so. It is written in one piece or not at all, over the one that
is there. So a run that is published twice, or after a kill, is there once, and nobody reads half of
it. Before a run is written under another day, its file under the old one is removed, but only once
all its rows were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.api.publish.columns import DAY
from padim_dist.api.publish.rows import TABLES, Table
from padim_dist.config import Config
from padim_dist.errors import RunError
from padim_dist.redaction import redacted
from padim_dist.storage import Folder

_ROWS_A_GROUP = 125_000


class HivePlace:
    """Folders of Parquet files.

    Parameters
    ----------
    config : Config
        The configuration, for access to the store.
    url : str
        The folder.
    """

    def __init__(self, config: Config, url: str) -> None:
        self._folder = Folder(url, config.storage_options)
        self.tables: list[Table] = list(TABLES)
        self.title = redacted(self._folder.url)
        self.key = f"hive {self.title}"

    def identity(self) -> str:
        """Return the address of the folder."""
        return self.title

    def replace(
        self,
        table: Table,
        runs: Sequence[str],
        days: Sequence[date],
        read: Callable[[str], Iterator[pa.Table]],
    ) -> None:
        """Replace the rows of runs, a file each; see `Place.replace`.

        Raises
        ------
        RunError
            If the store fails.
        """
        *former, day = days
        try:
            for run in runs:
                old = [_file(table, other, run) for other in former]
                self._put(_file(table, day, run), old, read(run))
        except OSError as error:
            raise RunError(
                f"{self.title} cannot be written: {type(error).__name__}: {error}. Whole files are "
                "there or none; 'padim-dist publish' tries again"
            ) from None

    def _put(self, path: str, old: Sequence[str], parts: Iterator[pa.Table]) -> None:
        """Write a file in place of old ones; a run without rows has none."""
        with TemporaryDirectory(prefix="padim-dist-publish-") as scratch:
            file = Path(scratch, "rows.parquet")
            writer = None
            try:
                for part in parts:
                    part = part.drop_columns([DAY])
                    writer = writer or pq.ParquetWriter(file, part.schema, compression="zstd")
                    writer.write_table(part, row_group_size=_ROWS_A_GROUP)
            finally:
                if writer:
                    writer.close()
            for other in old:
                self._folder.remove(other)
            if writer:
                self._folder.put_file(path, file)
            else:
                self._folder.remove(path)


def _file(table: Table, day: date, run: str) -> str:
    return f"{table.name}/{DAY}={day.isoformat()}/{run}.parquet"
