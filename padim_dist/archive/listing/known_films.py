"""Films that the manifest before has whole: their rows are taken from it, and no film is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from padim_dist.archive.films.names import NO_PICTURES
from padim_dist.archive.rows import TAIL

State = tuple[int, str]
"""Size and tag of a film."""
_SUMS = [("size", "min"), ("etag", "min"), ("unsure", "any")]


def whole_films(rows: Path) -> dict[str, State]:
    """Return the state of the films whose frames are all in a Parquet file of rows, by address.

    Films that could not be read whole are left out: they may be read now. So are films with labels:
    these come from masks, which may be others now.
    """
    films: dict[str, State | None] = {}
    lost = pa.array([TAIL, NO_PICTURES])
    for table in _tables(rows):
        labelled = pc.is_valid(table["label"])
        unsure = pc.or_(
            pc.or_(pc.is_in(table["member"], lost), labelled), pc.is_null(table["etag"])
        )
        summed = table.append_column("unsure", unsure).group_by("uri").aggregate(_SUMS)
        for film in summed.to_pylist():
            state = None if film["unsure_any"] else (film["size_min"], film["etag_min"])
            uri = film["uri"]
            films[uri] = state if films.get(uri, state) == state else None
    return {uri: state for uri, state in films.items() if state}


def rows_of(rows: Path, films: Collection[str]) -> Iterator[pa.Table]:
    """Yield the rows of some films."""
    for table in _tables(rows):
        # A lookup of all films would be built again for each table.
        here = [uri for uri in table["uri"].unique().to_pylist() if uri in films]
        if here:
            yield table.filter(pc.is_in(table["uri"], pa.array(here, pa.string())))


def _tables(rows: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(rows) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)
