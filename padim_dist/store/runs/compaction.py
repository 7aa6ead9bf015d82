"""Compaction: merge the table files of a finished run, one for each shard, into a few.

It writes the new files, then the receipt ``compact.json``, then removes the files of the shards.
Readers use the new files as soon as the receipt exists. The run can be read after every step.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq

from padim_dist.errors import RunError
from padim_dist.store.parquet import reports_parquet_damage, table_advice
from padim_dist.store.runs.digests import Digests, digest_of
from padim_dist.store.runs.rows import READ_SCHEMAS
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import Compacted, RunTable, is_added
from padim_dist.store.workspace import Workspace

ROWS_A_GROUP = 100_000
"""Most rows of a row group. A larger shard is not divided: it is a row group."""
GROUPS_A_FILE = 10
_THREADS = 8


def write_parts(table: RunTable, known: Digests) -> tuple[Digests, int]:
    """Write the new files of a table, used once the receipt is written.

    Parameters
    ----------
    table : RunTable
        The table of a finished run.
    known : mapping of str to str
        Digests of the files of its shards; empty in runs of versions that kept none.

    Returns
    -------
    digests, rows : mapping of str to str, int
        Digests of the new files, in order, by path in the folder of the run; rows in them.

    Raises
    ------
    RunError
        If the file of a shard is not the one that was written, or has columns that this version
        does not know.
    """
    digests: dict[str, str] = {}
    rows = 0
    groups = _row_groups(_read_ahead(table, known))
    while (first := next(groups, None)) is not None:
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
            for group in chain([first], islice(groups, GROUPS_A_FILE - 1)):
                writer.write_table(group, row_group_size=len(group))
                rows += len(group)
        file = f"{table.name}/part-{len(digests):05d}.parquet"
        table.workspace.folder.put(f"{table.run}/{file}", sink.getvalue())
        digests[file] = digest_of(sink.getbuffer())
    return digests, rows


def put_receipt(run: Run, receipt: Compacted) -> None:
    """Write the receipt: from now on readers use the new files."""
    run.workspace.folder.put_json(f"{run.path}/compact.json", asdict(receipt))


def old_files(run: Run, receipt: Compacted) -> list[str]:
    """Return the files of a compacted run's tables that its receipt does not name."""
    return [
        f"{table.path}/{name}"
        for table in (run.scores, run.regions)
        for name in run.workspace.folder.list(table.path)
        if name not in receipt.files[table.name] and not is_added(name)
    ]


def remove_files(workspace: Workspace, paths: Iterable[str]) -> None:
    """Remove files of a workspace, in parallel."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(workspace.folder.remove, paths))


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


def _read_ahead(table: RunTable, known: Digests) -> Iterator[pa.Table]:
    """Read the files of a table in order, a few at a time in parallel."""
    paths = table.shard_files()
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(paths), _THREADS):
            yield from pool.map(partial(_read, table, known), paths[first : first + _THREADS])


def _read(table: RunTable, known: Digests, path: str) -> pa.Table:
    """Read the rows of a shard; columns that its version did not have are null."""
    data = table.workspace.folder.read(path)
    expected = known.get(path.removeprefix(f"{table.run}/"))
    if expected is not None and digest_of(data) != expected:
        raise RunError(
            f"{table.workspace.at(path)} is not the file that was written: its digest differs from "
            "that in its receipt. 'padim-dist verify' says what else has changed; restore it from "
            "a copy of the workspace"
        )
    with reports_parquet_damage(
        table.workspace.at(path), table_advice(table.workspace.at(table.run))
    ):
        rows = pq.read_table(pa.BufferReader(data))
    # Version 0.3 and earlier stored flags, which the rule in the head gives as well.
    if unknown := set(rows.column_names) - set(READ_SCHEMAS[table.name].names):
        raise RunError(
            f"{table.workspace.at(path)} has columns that this version does not know "
            f"({', '.join(sorted(unknown))}); compact with the version that wrote it"
        )
    for field in table.schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(table.schema.names).cast(table.schema)
