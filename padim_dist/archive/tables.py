"""A user's own table as the archive: a Parquet or CSV file with a row an image."""

from __future__ import annotations

import io
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from padim_dist.archive.layouts import Listing, find_group
from padim_dist.archive.manifest import MANIFEST_SCHEMA, image_id
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder, object_tag

COLUMNS = ("uri", "group", "split", "label", "mask_uri")
_THREADS = 16


def list_table(table: Folder, train: str, group: str | None) -> Listing:
    """Images of a table.

    Parameters
    ----------
    table : Folder
        URL of a ``.parquet`` or ``.csv`` file. Column ``uri`` is needed; ``group``,
        ``split``, ``label`` and ``mask_uri`` are used where they are. URIs without a
        protocol are relative to the table's folder.
    train : str
        Regular expression: without a column ``split``, the uris, as written in the
        table, that are normal images.
    group : str or None
        Regular expression with a group named ``group``: without a column ``group``,
        where in the uri the group is.

    Raises
    ------
    ArchiveError
        If there is no such table, it has no column ``uri``, no row, a value of
        ``split`` that is none, or a uri twice.
    """
    home = Folder(table.url.rpartition("/")[0] or "/", table.options)
    rows = _read(table, home)
    written = rows["uri"]
    if None in written:
        raise ArchiveError(f"{table.url} has no uri in row {written.index(None) + 1}")
    uris = [_absolute(uri, home) for uri in written]
    twice = [uri for uri, count in Counter(uris).items() if count > 1]
    if twice:
        raise ArchiveError(f"{table.url} has {len(twice)} uris more than once, e.g. {twice[0]!r}")
    with ThreadPoolExecutor(_THREADS) as pool:
        infos = list(pool.map(lambda uri: _info(uri, home), uris))
    sizes = [int(info["size"] or 0) if info else 0 for info in infos]
    splits = rows.get("split") or ["train" if re.search(train, uri) else "test" for uri in written]
    wrong = sorted({str(split or "nothing") for split in splits} - {"train", "test"})
    if wrong:
        raise ArchiveError(
            f"{table.url} has {wrong[0]!r} in column 'split'; valid are 'train' and 'test'"
        )
    masks = rows.get("mask_uri") or [None] * len(uris)
    columns = {
        "image_id": [image_id(uri) for uri in written],
        "uri": uris,
        "member": [None] * len(uris),
        "offset": [0] * len(uris),
        "length": sizes,
        "size": sizes,
        "etag": [object_tag(info) if info else None for info in infos],
        "group": [
            name or None
            for name in rows.get("group") or [find_group(uri, group) for uri in written]
        ],
        "split": splits,
        "label": rows.get("label") or [None] * len(uris),
        "mask_uri": [_absolute(mask, home) if mask else None for mask in masks],
        "shard": [0] * len(uris),
    }
    return Listing(pa.table(columns, schema=MANIFEST_SCHEMA), {})


def _read(table: Folder, home: Folder) -> dict[str, list[Any]]:
    """Known columns of the table."""
    name = table.url.rpartition("/")[2]
    try:
        data = home.read(name)
        if name.endswith(".csv"):
            content = csv.read_csv(
                io.BytesIO(data),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=True
                ),
            )
        else:
            content = pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise ArchiveError(
            f"archive.url {table.url} is not a Parquet or CSV table: {reason}"
        ) from error
    if "uri" not in content.column_names or not len(content):
        found = ", ".join(content.column_names)
        raise ArchiveError(
            f"{table.url} needs a column 'uri' and a row at least; it has {len(content)} rows of "
            f"{found}. Known columns: {', '.join(COLUMNS)}"
        )
    return {
        column: content[column].cast(pa.string()).to_pylist()
        for column in COLUMNS
        if column in content.column_names
    }


def _absolute(uri: str, home: Folder) -> str:
    return uri if "://" in uri or uri.startswith("/") else home.at(uri)


def _info(uri: str, home: Folder) -> dict[str, Any] | None:
    """What the store tells of an object; None if it is not there: a row ``missing``, later."""
    folder, _, name = uri.rpartition("/")
    try:
        parent = Folder(folder or "/", home.options)
        info: dict[str, Any] = parent.fs.info(parent.at(name))
    except (FileNotFoundError, PermissionError):
        return None
    except (ValueError, ImportError) as error:
        raise ArchiveError(f"uri {uri!r} of the table cannot be looked up: {error}") from error
    return info
