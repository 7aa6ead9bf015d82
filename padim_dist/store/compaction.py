"""Compaction: merge the table files of a finished run, one for each shard, into a few.

It writes the new files, then the receipt ``compact.json``, then removes the files of the shards.
Readers use the new files as soon as the receipt exists. The run can be read after every step.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.errors import RunError
from padim_dist.store.run import Run
from padim_dist.store.run_tables import Compacted, RunTable, compact_path, find_compacted
from padim_dist.store.workspace import Workspace

ROWS_A_GROUP = 100_000
"""Most rows of a row group. A larger shard is not divided: it is a row group."""
GROUPS_A_FILE = 10
_THREADS = 8


def write_parts(table: RunTable) -> tuple[list[str], int]:
    """Write the new files of a table; readers use them only once the receipt is written.

    Returns
    -------
    names : list of str
        Names of the files.
    rows : int
        Rows in them.

    Raises
    ------
    RunError
        If a shard's file has columns that this version does not know.
    """
    workspace, schema = table.workspace, table.schema
    shards = _read_ahead(workspace, table.files(), schema)
    names: list[str] = []
    rows = 0
    groups = _row_groups(shards)
    while (first := next(groups, None)) is not None:
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for group in chain([first], islice(groups, GROUPS_A_FILE - 1)):
                writer.write_table(group, row_group_size=len(group))
                rows += len(group)
        names.append(f"part-{len(names):05d}.parquet")
        workspace.folder.put(f"{table.path}/{names[-1]}", sink.getvalue())
    return names, rows


def find_receipt(run: Run) -> Compacted | None:
    """Return the receipt of a run's compaction; None if there is none."""
    return find_compacted(run.workspace, run.path)


def put_receipt(run: Run, receipt: Compacted) -> None:
    """Write the receipt: from now on readers use the new files."""
    run.workspace.folder.put_json(compact_path(run.path), asdict(receipt))


def old_files(run: Run, receipt: Compacted) -> list[str]:
    """Return the files of a compacted run's tables that its receipt does not name."""
    found = []
    for table in (run.scores, run.regions):
        kept = set(receipt.files[table.name])
        names = run.workspace.folder.list(table.path)
        found += [f"{table.path}/{name}" for name in names if name not in kept]
    return found


def remove_files(workspace: Workspace, paths: Iterable[str]) -> None:
    """Remove files of a workspace, in parallel."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(workspace.folder.remove, paths):
            pass


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Concatenate whole shards into tables of at most `ROWS_A_GROUP` rows."""
    held: list[pa.Table] = []
    for table in tables:
        if held and sum(map(len, held)) + len(table) > ROWS_A_GROUP:
            yield pa.concat_tables(held)
            held = []
        held.append(table)
    if held:
        yield pa.concat_tables(held)


def _read_ahead(
    workspace: Workspace, paths: Sequence[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Read tables in order, a few files at a time in parallel."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(paths), _THREADS):
            some = paths[first : first + _THREADS]
            yield from pool.map(lambda path: _read(workspace, path, schema), some)


def _read(workspace: Workspace, path: str, schema: pa.Schema) -> pa.Table:
    """Read a shard's table; columns that its version did not have are null."""
    table = pq.read_table(pa.BufferReader(workspace.folder.read(path)))
    unknown = set(table.column_names) - set(schema.names)
    if unknown:
        raise RunError(
            f"{workspace.at(path)} has columns that this version does not know "
            f"({', '.join(sorted(unknown))}); compact with the version that wrote it"
        )
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
