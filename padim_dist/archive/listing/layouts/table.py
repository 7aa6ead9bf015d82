"""Layout ``table``: a Parquet or CSV file with a row per image."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from padim_dist.archive.addresses import elements, lies_below
from padim_dist.archive.listing.layouts.base import EXCLUDED, Listing
from padim_dist.archive.listing.layouts.table_columns import Row, Table
from padim_dist.archive.listing.spool import Batch, FoundImage, Spool
from padim_dist.archive.listing.walk import BROKEN, THREADS
from padim_dist.archive.rows import image_id
from padim_dist.bodies import object_tag
from padim_dist.errors import ArchiveError
from padim_dist.local_files import local_path
from padim_dist.storage import Folder

_SHOWN = 3


def list_images(listing: Listing, spool: Spool) -> None:
    """List the images of a ``.parquet`` or ``.csv`` table.

    Column ``uri`` is required; ``group``, ``split``, ``label`` and ``mask_uri`` are optional. URIs
    without a protocol are relative to the table's folder. Without a column ``split`` or ``group``,
    the regular expressions are searched in the uri as written in the table.

    Raises
    ------
    ArchiveError
        If there is no such table, it has no rows, wrong columns, a wrong value of ``split``, a
        repeated uri, or a uri outside its folder and the folders of ``archive.allow``.
    """
    found = listing.archive
    home = Folder(found.url.rpartition("/")[0] or "/", found.options)
    table = Table(found)
    outside = _Outside((home.url, *listing.allow))
    count = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for rows in table.rows():
            _check(found, rows, "split" in table.columns, count)
            outside.look_at(rows, home, count)
            count += len(rows)
            kept = [row for row in rows if not listing.is_excluded(str(row["uri"]))]
            batch = Batch()
            if len(kept) < len(rows):
                batch.ignored[EXCLUDED] += len(rows) - len(kept)
            if not outside.count:
                batch.images.extend(pool.map(lambda row: _image(row, home, listing), kept))
            spool.add(batch)
            listing.tell(count)
    if outside.count:
        raise ArchiveError(f"{found.url} {outside.message()}")
    if not spool.images:
        left = spool.ignored[EXCLUDED]
        raise ArchiveError(f"{found.url} has no image (found: {count} rows, {left} {EXCLUDED})")
    twice, example = spool.repeated_uris()
    if twice:
        raise ArchiveError(
            f"{found.url} repeats uris ({twice}), e.g. {example!r}; keep one row each"
        )


class _Outside:
    """Rows of a table that name something outside the folders that it may name."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        self.count = 0
        self._folders = folders
        self._examples: list[str] = []
        self._missing: Counter[str] = Counter()

    def look_at(self, rows: list[Row], home: Folder, before: int) -> None:
        for number, row in enumerate(rows, before + 1):
            for column in ("uri", "mask_uri"):
                written = row.get(column)
                if written and not self._allows(address := _absolute(written, home)):
                    self.count += 1
                    self._missing[_folder_to_allow(address)] += 1
                    if len(self._examples) < _SHOWN:
                        self._examples.append(f"{column} of row {number}")

    def _allows(self, address: str) -> bool:
        return any(lies_below(address, folder) for folder in self._folders)

    def message(self) -> str:
        """Return which rows are refused, and the setting that would allow them."""
        some = ", ".join(self._examples) + (", ..." if self.count > _SHOWN else "")
        folders = [folder for folder, _ in self._missing.most_common(_SHOWN)]
        return (
            f"names files outside its folder in {self.count} places ({some}). If they belong to "
            f"the archive, add their folders to archive.allow, e.g. {folders}"
        )


def _folder_to_allow(address: str) -> str:
    """Return the folder to allow for an address: at most two elements, without a password."""
    protocol, *path = elements(address)
    folder = re.sub(r"[^/@]*:[^/@]*@", "", "/".join(path[:-1][:2]))
    return f"{protocol}://{folder}" if protocol else f"/{folder}"


def _check(table: Folder, rows: list[Row], has_split: bool, before: int) -> None:
    """Refuse rows without a uri, and wrong values of ``split``."""
    for number, row in enumerate(rows, before + 1):
        if row["uri"] is None:
            raise ArchiveError(f"{table.url} has no uri in row {number}; add it or remove the row")
        if "\0" in f"{row['uri']}{row.get('mask_uri')}":
            raise ArchiveError(f"{table.url} has a null character in row {number}; correct the row")
        if has_split and row["split"] not in ("train", "test"):
            raise ArchiveError(
                f"{table.url} has {row['split'] or 'nothing'!r} in column 'split' of row {number}; "
                "valid are 'train' and 'test'"
            )


def _image(row: Row, home: Folder, listing: Listing) -> FoundImage:
    mask, written = row.get("mask_uri"), str(row["uri"])
    uri = _absolute(written, home)
    info = _info(uri, home)
    size = int(info["size"] or 0) if info else 0
    return FoundImage(
        image_id=image_id(written),
        uri=uri,
        length=size,
        size=size,
        etag=object_tag(info) if info else None,
        group=(row["group"] if "group" in row else listing.find_group(written)) or None,
        split=str(row["split"]) if "split" in row else listing.find_split(written),
        label=row.get("label"),
        mask_uri=_absolute(mask, home) if mask else None,
    )


def _absolute(uri: str, home: Folder) -> str:
    return uri if "://" in uri or uri.startswith("/") else home.at(uri)


def _info(uri: str, home: Folder) -> dict[str, Any] | None:
    """Return the store's information on an object; None if it is missing or forbidden."""
    folder, _, name = local_path(uri).rpartition("/")
    parent = Folder(folder or "/", home.options)
    try:
        info: dict[str, Any] = parent.fs.info(parent.at(name))
    except (FileNotFoundError, PermissionError):
        return None
    except Exception as error:  # stores and HTTP clients raise errors of any class
        if parent.is_local and isinstance(error, OSError) and error.errno in BROKEN:
            return None
        raise ArchiveError(
            f"uri {uri!r} of the table cannot be looked up ({type(error).__name__}: {error}). Run "
            "the same command again when it can be"
        ) from error
    return info
