"""Rows of a manifest that was written as changes of an earlier one.

A night that changes 1 % of an archive writes 1 % of its rows: a *delta*. A manifest is then a
*chain*: a whole manifest, and the deltas since. The rows of a chain are numbered, those of the
whole manifest first, then those of each delta. A delta has the rows that are new or different, and
the numbers of the rows that are not there any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.errors import DamagedFileError
from padim_dist.store.parquet import open_parquet
from padim_dist.store.workspace import Workspace

REMOVED = "removed"
"""Column of a delta: the number of a row that is gone; the other columns are then null."""
NUMBER = "number"
"""Column that `read_chain` adds."""
_SHARE, _LONGEST = 0.25, 50
"""Rows of all deltas, as a share of the whole manifest's, and deltas, at most."""


@dataclass(frozen=True)
class DeltaFile:
    """A delta: its path in the workspace, and its rows. Its name is new each time: others count."""

    path: str
    rows: int


@dataclass(frozen=True)
class Chain:
    """What a manifest consists of.

    Attributes
    ----------
    base, images : str, int
        Id of the whole manifest, and its rows.
    deltas : sequence of DeltaFile
        The changes since, in order.
    """

    base: str
    images: int
    deltas: Sequence[DeltaFile] = ()

    def may_grow(self, rows: int) -> bool:
        """Return whether a delta of some rows may follow, or a whole manifest is due.

        Whole manifests are so rare that a night costs about five times what it changes.
        """
        total = rows + sum(delta.rows for delta in self.deltas)
        return total <= _SHARE * self.images and len(self.deltas) < _LONGEST

    def with_delta(self, delta: DeltaFile) -> Chain:
        """Return the chain with one more delta."""
        return Chain(self.base, self.images, (*self.deltas, delta))

    @property
    def manifests(self) -> set[str]:
        """Ids of the manifests whose files it uses."""
        return {self.base, *(delta.path.split("/")[1] for delta in self.deltas)}


def read_chain(
    workspace: Workspace, chain: Chain, base: Iterator[pa.Table], advice: str
) -> Iterator[pa.Table]:
    """Yield the rows of a chain with their numbers, in no particular order.

    Parameters
    ----------
    base : iterator of pyarrow.Table
        All rows of the whole manifest, in order.
    advice : str
        What to do about a damaged file.

    Raises
    ------
    DamagedFileError
        If a file is damaged or missing, or rows of the whole manifest are.
    """
    total = chain.images + sum(delta.rows for delta in chain.deltas)
    there = np.ones(total, bool)
    for delta in chain.deltas:
        with _opened(workspace, delta, advice) as parquet:
            gone = parquet.read([REMOVED])[REMOVED].drop_null()
        there[gone.to_numpy()] = False
    start = 0
    for table in base:
        yield _left(table, there, start)
        start += len(table)
    if start != chain.images:
        # All numbers of rows would be others.
        file = workspace.at(workspace.manifest(chain.base))
        raise DamagedFileError(file, f"it has {start:,} rows of {chain.images:,}", advice)
    for delta in chain.deltas:
        with _opened(workspace, delta, advice) as parquet:
            for number in range(parquet.num_row_groups):
                table = parquet.read_row_group(number)
                left = _left(table, there, start)
                yield left.filter(pc.is_valid(left["uri"])).drop_columns([REMOVED])
                start += len(table)


@contextmanager
def _opened(workspace: Workspace, delta: DeltaFile, advice: str) -> Iterator[pq.ParquetFile]:
    """Open a delta; one that is missing is damage, as rows of the whole manifest are."""
    try:
        with open_parquet(workspace.folder, delta.path, advice) as parquet:
            yield parquet
    except FileNotFoundError:
        raise DamagedFileError(workspace.at(delta.path), "it is missing", advice) from None


def _left(
    table: pa.Table, there: np.ndarray[tuple[int], np.dtype[np.bool_]], start: int
) -> pa.Table:
    """Return the rows that are there, with their numbers, given that of the first row."""
    numbers = pa.array(np.arange(start, start + len(table)))
    mask = pa.array(there[start : start + len(table)])
    return table.append_column(NUMBER, numbers).filter(mask)
