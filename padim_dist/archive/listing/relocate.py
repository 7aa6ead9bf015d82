"""Addresses of an archive that has moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

_COLUMNS = ("uri", "mask_uri")


def relocate(tables: Iterable[pa.Table], former: str, now: str) -> Iterator[pa.Table]:
    """Yield tables whose addresses below one folder are moved below another.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Rows with a column ``uri``, and maybe ``mask_uri``.
    former, now : str
        Where the archive was, and where it is: URLs or local paths without a trailing slash.
    """
    if former == now:
        yield from tables
        return
    for table in tables:
        for name in _COLUMNS:
            if name in table.column_names:
                at = table.column_names.index(name)
                table = table.set_column(at, table.field(at), _moved(table[name], former, now))
        yield table


def _moved(column: pa.ChunkedArray, former: str, now: str) -> pa.ChunkedArray:
    # Local names that are not UTF-8 have file:// addresses.
    pairs = [(former, now)]
    if "://" not in former + now:
        pairs.append((f"file://{quote(former)}", f"file://{quote(now)}"))
    for old, new in pairs:
        rest = pc.utf8_slice_codeunits(column, len(old))
        inside = pc.or_(
            pc.starts_with(rest, "/"), pc.or_(pc.equal(rest, ""), pc.starts_with(rest, "#"))
        )
        below = pc.and_(pc.starts_with(column, old), inside)
        column = pc.if_else(below, pc.binary_join_element_wise(new, rest, ""), column)
    return column
