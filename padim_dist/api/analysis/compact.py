"""Compact: merge the many small files of finished runs into a few."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from padim_dist.api.settings.lookup import choose_run
from padim_dist.api.settings.places import ConfigLike, as_config, logger, workspace_of
from padim_dist.api.sql.tables import files_query, open_connection, quoted
from padim_dist.errors import HeldError, RequestError, RunError
from padim_dist.events import Listener, Progress, ignore
from padim_dist.store.lease import hold
from padim_dist.store.runs import compaction
from padim_dist.store.runs.digests import find_files
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import SCORES
from padim_dist.store.runs.run import Run, list_runs
from padim_dist.store.runs.tables import Compacted, RunTable, find_compacted
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class CompactResult:
    """Counts of a compaction.

    Attributes
    ----------
    runs, before : int
        Runs compacted by this call, and runs that were compact already.
    left : list of str
        Ids of skipped runs: half done, or in use by another command.
    files, files_removed, rows : int
        Files written, old files removed, and rows of the score tables written.
    """

    runs: int
    before: int
    left: list[str]
    files: int
    files_removed: int
    rows: int


def compact(
    config: ConfigLike, listener: Listener = ignore, *, run: str | None = None
) -> CompactResult:
    """Merge the score and region files of finished runs into a few each.

    Rows and columns stay as they are, in the order of the shards. New files are read back
    and compared with the old ones before any is removed. After an interruption the run can be
    read, and the next call finishes.

    Parameters
    ----------
    config : Config or path
        The configuration.
    listener : callable, optional
        Receives events.
    run : str, optional
        Id of a run, or a unique prefix; by default all finished runs.

    Raises
    ------
    RequestError
        If there is no such run, or the one asked for is not finished.
    HeldError
        If another command uses the run that was asked for.
    RunError
        If the new files differ from the old ones; nothing is removed then.

    Examples
    --------
    >>> compact(config).files_removed       # doctest: +SKIP
    10000
    """
    workspace = workspace_of(as_config(config))
    heads = list_runs(workspace) if run is None else [choose_run(workspace, run)]
    done: list[tuple[Compacted, int]] = []
    left = []
    for number, head in enumerate(heads):
        listener(Progress("compact", len(heads), number))
        try:
            made = _compact(workspace, head)
        except (RequestError, HeldError) as error:
            if run is not None:
                raise
            logger.warning("skipped: %s", error)
            left.append(head.run_id)
            continue
        if made:
            done.append(made)
    listener(Progress("compact", len(heads), len(heads)))
    return CompactResult(
        runs=len(done),
        before=len(heads) - len(done) - len(left),
        left=left,
        files=sum(len(names) for receipt, _ in done for names in receipt.files.values()),
        files_removed=sum(removed for _, removed in done),
        rows=sum(receipt.rows[SCORES] for receipt, _ in done),
    )


def _compact(workspace: Workspace, head: RunHead) -> tuple[Compacted, int] | None:
    """Compact a run; return its receipt and the files removed, None if it is compact."""
    run = Run(workspace, head.run_id)
    receipt = find_compacted(workspace, run.path)
    if receipt and not compaction.old_files(run, receipt):
        return None
    if not head.is_finished:
        raise RequestError(
            f"run {head.run_id} is half done; run 'padim-dist score' again: it resumes"
        )
    with hold(workspace, run.path) as lease:
        if run.find_head() is None:
            raise RequestError(f"run {head.run_id} is gone: a prune has removed it meanwhile")
        receipt = find_compacted(workspace, run.path)
        if receipt is None:
            receipt = _write(run, len(head.shards))
            lease.guard(ignore)(Progress("compact", 0, 0))  # not after the lease was taken over
            compaction.put_receipt(run, receipt)
        compaction.remove_files(workspace, old := compaction.old_files(run, receipt))
    return receipt, len(old)


def _write(run: Run, places: int) -> Compacted:
    """Write the new files and compare them with the old ones."""
    if run.scores.finished() != set(range(places)):
        raise RunError(
            f"run {run.run_id} is finished, but score tables are missing in {run.url}; restore "
            "them, or run 'padim-dist score' again"
        )
    listed = find_files(run.workspace.folder, run.path)
    known = listed[0].digests if listed else {}
    files: dict[str, list[str]] = {}
    rows: dict[str, int] = {}
    digests: dict[str, str] = {}
    for table in (run.scores, run.regions):
        parts, rows[table.name] = compaction.write_parts(table, known)
        digests |= parts
        files[table.name] = [PurePosixPath(part).name for part in parts]
        _compare(table, [f"{run.path}/{part}" for part in parts])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Compacted(places, files, rows, now, digests)


def _compare(table: RunTable, parts: list[str]) -> None:
    """Refuse new files that do not contain each row of the old ones exactly once."""
    old, workspace = table.shard_files(), table.workspace
    if not old and not parts:
        return
    connection = open_connection(workspace)
    sources = [files_query(map(workspace.at, files)) for files in (old, parts)]
    # Rows, different images, and a checksum that does not depend on the order of rows.
    there = connection.sql(f"FROM {sources[0]}").columns
    names = ", ".join(quoted(name) for name in there if name in table.schema.names)
    counts = f"count(*), count(DISTINCT image_id), sum(hash({names})::HUGEINT)"
    before, after = (
        connection.execute(f"SELECT {counts} FROM {source}").fetchone() for source in sources
    )
    if before != after:
        raise RunError(
            f"the compacted {table.path} differs from the original: rows, images and checksum are "
            f"{after} instead of {before}. Nothing was removed; check the storage of "
            f"{workspace.folder.url}"
        )
