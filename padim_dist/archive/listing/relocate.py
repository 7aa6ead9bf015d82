"""Rows of an archive that has moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from padim_dist.archive.addresses import relocated

_COLUMNS = ("uri", "mask_uri")


def relocate(tables: Iterable[pa.Table], former: str | None, now: str) -> Iterator[pa.Table]:
    """Yield tables with the addresses that their files have now.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Rows with a column ``uri``, and maybe ``mask_uri``.
    former, now : str
        Where the archive was, and where it is: see `relocated`.
    """
    for table in tables:
        for at, name in enumerate(table.column_names):
            if name in _COLUMNS and former is not None:
                field = table.field(at)
                found = (one and relocated(one, former, now) for one in table[at].to_pylist())
                table = table.set_column(at, field, pa.array(found, field.type))
        yield table
