"""Reads of an object, or of a range of its bytes, with its version."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.asyn import AsyncFileSystem


@dataclass(frozen=True)
class Body:
    """Result of a read.

    Attributes
    ----------
    data : bytes
        The file, or the requested range of it.
    tag : str or None
        `object_tag` of the whole file.
    md5 : str or None
        MD5 of the data from the store; None where the store gives none, or it has been checked.
    """

    data: bytes
    tag: str | None
    md5: str | None = None


def read_regular(path: str, start: int | None, stop: int | None) -> bytes:
    """Read a local file, or a range of it.

    Opening a named pipe would wait for a writer, and a device may act: both are refused.

    Raises
    ------
    OSError
        If there is no such file, it cannot be read, or it is a folder, pipe, socket or device.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", path)
    with open(path, "rb") as file:
        if start is None or stop is None:
            return file.read()
        file.seek(start)
        return file.read(stop - start)


async def get_body(fs: AsyncFileSystem, url: str, start: int | None, stop: int | None) -> Body:
    """Read an object of an asynchronous file system; FileNotFoundError where there is none."""
    data = await fs._cat_file(url, start=start, end=stop)
    return Body(bytes(data), object_tag(await fs._info(url)))


def object_tag(info: Mapping[str, Any]) -> str | None:
    """Return the version of an object: the etag of the store, or its time and size.

    Parameters
    ----------
    info : mapping
        Result of fsspec's ``info``, or a response of the store.

    Returns
    -------
    str or None
        None where the store gives neither.
    """
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    changed = info.get("mtime") or info.get("LastModified") or info.get("created")
    return f"{changed}-{info['size']}" if changed else None
