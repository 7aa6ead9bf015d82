"""A folder anywhere that fsspec reaches: the one place that opens files.

File systems are built inside each process and never travel with a task: what travels
is a `Folder`, which is a URL and its options.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

Options = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Folder:
    """A folder by URL.

    Parameters
    ----------
    url : str
        Any fsspec URL; a path of this machine is made absolute.
    options : mapping
        Options for fsspec by protocol, e.g. ``{"s3": {"endpoint_url": ...}}``.

    Examples
    --------
    >>> folder = Folder("memory://audit")
    >>> folder.put("runs/a.json", b"{}")
    >>> folder.exists("runs/a.json"), folder.list("runs")
    (True, ['a.json'])
    """

    url: str
    options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = self.url.removeprefix("file://")
        if "://" not in url:
            url = os.path.abspath(os.path.expanduser(url))
        object.__setattr__(self, "url", url.rstrip("/") or "/")

    @property
    def is_local(self) -> bool:
        """Whether the folder is a path of this machine."""
        return "://" not in self.url

    @property
    def protocol_options(self) -> dict[str, Any]:
        """Options of this folder's own protocol."""
        protocol = "file" if self.is_local else self.url.split("://", 1)[0]
        return dict(self.options.get(protocol, {}))

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """File system of this process."""
        if self.is_local:
            # Not by the path: "::" in a name would be read as a chain of file systems.
            return fsspec.filesystem("file", **self.protocol_options)
        # Listings are never cached: other processes write what this one looks for.
        fresh = {**self.protocol_options, "use_listings_cache": False}
        fs, _ = fsspec.core.url_to_fs(self.url, **fresh)
        return fs

    def at(self, *parts: str) -> str:
        """URL (or local path) of something inside the folder."""
        return "/".join((self.url, *parts))

    def read(self, path: str) -> bytes:
        """Bytes of a file; FileNotFoundError where there is none."""
        data: bytes = self.fs.cat_file(self.at(path))
        return data

    def read_tagged(self, path: str) -> tuple[bytes, str | None]:
        """Bytes of a file and its `object_tag`; from S3 in one request."""
        fs, target = self.fs, self.at(path)
        if "s3" in fs.protocol:
            data, tag = sync(fs.loop, _get_from_s3, fs, target)
        else:
            data, tag = fs.cat_file(target), object_tag(fs.info(target))
        return bytes(data), tag

    def read_json(self, path: str) -> dict[str, Any]:
        """Object of a JSON file."""
        value: dict[str, Any] = json.loads(self.read(path))
        return value

    def put(self, path: str, data: bytes) -> None:
        """Write a file in one atomic step: readers see the old one or the new one."""
        fs, target = self.fs, self.at(path)
        if isinstance(fs, LocalFileSystem):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            draft = Path(f"{target}.{uuid.uuid4().hex}.tmp")
            try:
                with draft.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
        else:
            fs.pipe_file(target, data)

    def put_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write an object as JSON, atomically."""
        self.put(path, json.dumps(value, indent=1, sort_keys=True).encode())

    def exists(self, path: str = "") -> bool:
        """Whether there is a file or folder at a path inside the folder."""
        return bool(self.fs.exists(self.at(path) if path else self.url))

    def list(self, path: str = "") -> list[str]:
        """Names directly inside a folder, sorted; none where there is no folder."""
        try:
            entries = self.fs.ls(self.at(path) if path else self.url, detail=False)
        except FileNotFoundError:
            return []
        names = sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if not name.endswith(".tmp")]


async def _get_from_s3(fs: AsyncFileSystem, url: str) -> tuple[bytes, str | None]:
    """Body and etag in one request, where `cat_file` would ask for the size first."""
    bucket, key, _ = fs.split_path(url)
    response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
    async with response["Body"] as body:
        return await body.read(), object_tag(response)


def object_tag(info: Mapping[str, Any]) -> str | None:
    """What changes when an object does: the store's etag, or its time and size.

    Parameters
    ----------
    info : mapping
        What fsspec's ``info`` or a response of the store tells of the object.

    Returns
    -------
    str or None
        None where the store tells neither.
    """
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    changed = info.get("mtime") or info.get("LastModified") or info.get("created")
    return f"{changed}-{info['size']}" if changed else None
