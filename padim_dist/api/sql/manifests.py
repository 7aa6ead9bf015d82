"""SQL over the rows of a manifest, also of one that was written as changes of another."""

from __future__ import annotations

from itertools import accumulate

from padim_dist.api.sql.flags import literal
from padim_dist.api.sql.tables import files_query
from padim_dist.store.manifests import REMOVED, find_head, manifest_files, rows_of_base
from padim_dist.store.workspace import Workspace


def manifest_query(workspace: Workspace, snapshot: str) -> str | None:
    """Return the SQL of the rows of a manifest; None if it is gone.

    Only lists of files are read. The column ``shard`` of a manifest that was written as changes is
    null: its shards are not cut.

    Raises
    ------
    DamagedFileError
        If the manifest was written as changes of one that is not complete.
    """
    head = find_head(workspace, snapshot)
    if head is None or head.chain is None:
        whole = manifest_files(workspace, snapshot)
        return files_query(whole) if whole else None
    deltas = {workspace.at(delta.path): delta.rows for delta in head.chain.deltas}
    files = {**rows_of_base(workspace, snapshot, head.chain), **deltas}
    starts = accumulate(files.values(), initial=0)
    numbered = " UNION ALL BY NAME ".join(
        f"SELECT *, file_row_number + {start} AS number "
        f"FROM read_parquet({literal(file)}, file_row_number = true)"
        for file, start in zip(files, starts, strict=False)
    )
    gone = f"SELECT {REMOVED} AS number FROM {files_query(deltas)} WHERE {REMOVED} IS NOT NULL"
    return (
        f"(SELECT * EXCLUDE ({REMOVED}, number, file_row_number) REPLACE (NULL::INTEGER AS shard) "
        f"FROM ({numbered}) ANTI JOIN ({gone}) USING (number) WHERE uri IS NOT NULL)"
    )
