"""Folders of any fsspec file system; only this module opens files.

A task carries a `Folder`, which is a URL and its options. Each process builds its own file
systems.
"""

from __future__ import annotations

import copy
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

Options = Mapping[str, Mapping[str, Any]]

# Defaults for botocore: more parallel requests than its 10, and no validation of our own calls,
# which is a fifth of the cost of a GET.
_S3_CONFIG = {"max_pool_connections": 64, "parameter_validation": False}


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
        MD5 of the data from the store; None where the store gives none.
    """

    data: bytes
    tag: str | None
    md5: str | None = None


@dataclass(frozen=True)
class Folder:
    """A folder by URL.

    Parameters
    ----------
    url : str
        Any fsspec URL; a local path is made absolute.
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
    options: Options = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        url = self.url.removeprefix("file://")
        if "://" not in url:
            url = os.path.abspath(os.path.expanduser(url))
        object.__setattr__(self, "url", url.rstrip("/") or "/")

    @property
    def is_local(self) -> bool:
        """Whether the folder is a local path."""
        return "://" not in self.url

    @property
    def protocol_options(self) -> dict[str, Any]:
        """Options of the protocol of this folder."""
        protocol = "file" if self.is_local else self.url.split("://", 1)[0]
        return dict(self.options.get(protocol, {}))

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """File system of this process."""
        if self.is_local:
            # Not by the path: fsspec reads "::" in a name as a chain of file systems.
            return fsspec.filesystem("file", **self.protocol_options)
        # Listings are not cached: other processes write files that this one looks for.
        options = self.protocol_options
        if self.url.startswith(("s3://", "s3a://")):
            # A copy: botocore changes its arguments.
            options["config_kwargs"] = _S3_CONFIG | copy.deepcopy(options.get("config_kwargs", {}))
        fs, _ = fsspec.core.url_to_fs(self.url, **{**options, "use_listings_cache": False})
        return fs

    def at(self, *parts: str) -> str:
        """Return the URL (or local path) of a path inside the folder."""
        return "/".join((self.url, *parts))

    def read(self, path: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError where there is none."""
        data: bytes = self.fs.cat_file(self.at(path))
        return data

    def read_body(
        self,
        path: str,
        start: int | None = None,
        stop: int | None = None,
        timeout: float | None = None,
    ) -> Body:
        """Read a file or a range of its bytes, with its `object_tag`; one request on S3.

        Raises
        ------
        FileNotFoundError
            If there is none.
        TimeoutError
            If the read takes longer than `timeout` seconds; only on asynchronous file systems
            of fsspec, such as those of the large stores.
        """
        fs, target = self.fs, self.at(path)
        if isinstance(fs, AsyncFileSystem):
            get = _get_from_s3 if "s3" in fs.protocol else _get
            body: Body = sync(fs.loop, get, fs, target, start, stop, timeout=timeout)
            return body
        return Body(bytes(fs.cat_file(target, start, stop)), object_tag(fs.info(target)))

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the object in a JSON file."""
        value: dict[str, Any] = json.loads(self.read(path))
        return value

    def find_json(self, path: str) -> dict[str, Any] | None:
        """Return the object in a JSON file; None where there is no file."""
        try:
            return self.read_json(path)
        except FileNotFoundError:
            return None

    def put(self, path: str, data: bytes) -> None:
        """Write a file atomically: readers see the old or the new one."""
        fs, target = self.fs, self.at(path)
        if isinstance(fs, LocalFileSystem):
            with _draft(target) as draft:
                draft.write_bytes(data)
                _flush(draft)
                draft.replace(target)
        else:
            fs.pipe_file(target, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file atomically unless it exists; return whether it was written.

        Of several simultaneous writers one succeeds, and the file is complete.
        """
        fs, target = self.fs, self.at(path)
        try:
            if isinstance(fs, LocalFileSystem):
                with _draft(target) as draft:
                    draft.write_bytes(data)
                    _flush(draft)
                    os.link(draft, target)
            else:
                fs.pipe_file(target, data, mode="create")
        except FileExistsError:
            return False
        except OSError:
            # Stores report the conflict in different ways. If two writers are refused at once,
            # or a shared folder has no links, a plain put is right.
            if self.exists(path):
                return False
            self.put(path, data)
        return True

    def remove(self, path: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.at(path))

    def remove_tree(self, path: str) -> None:
        """Remove a folder and its contents if it exists."""
        with suppress(FileNotFoundError):
            self.fs.rm(self.at(path), recursive=True)

    def put_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write an object as JSON, atomically."""
        self.put(path, _to_json(value))

    def create_json(self, path: str, value: Mapping[str, Any]) -> bool:
        """Write an object as JSON unless the file exists; return whether it was written."""
        return self.create(path, _to_json(value))

    def exists(self, path: str = "") -> bool:
        """Return whether a file or folder exists at a path inside the folder."""
        return bool(self.fs.exists(self.at(path) if path else self.url))

    def list(self, path: str = "") -> list[str]:
        """Return the sorted names inside a folder; none where there is no folder."""
        try:
            entries = self.fs.ls(self.at(path) if path else self.url, detail=False)
        except FileNotFoundError:
            return []
        names = sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return [name for name in names if not name.endswith(".tmp")]


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


@contextmanager
def _draft(target: str) -> Iterator[Path]:
    """Yield a temporary path next to a local file, for its incomplete content."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    draft = Path(f"{target}.{uuid.uuid4().hex}.tmp")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


async def _get(fs: AsyncFileSystem, url: str, start: int | None, stop: int | None) -> Body:
    data = await fs._cat_file(url, start=start, end=stop)
    return Body(bytes(data), object_tag(await fs._info(url)))


async def _get_from_s3(fs: AsyncFileSystem, url: str, start: int | None, stop: int | None) -> Body:
    """Read body and etag in one request; `cat_file` would request the size first."""
    bucket, key, _ = fs.split_path(url)
    part = {} if start is None or stop is None else {"Range": f"bytes={start}-{stop - 1}"}
    response = await fs._call_s3("get_object", Bucket=bucket, Key=key, **part)
    async with response["Body"] as stream:
        data = await stream.read()
    tag = object_tag(response)
    encryption = response.get("ServerSideEncryption", "")
    encrypted = "kms" in encryption or "SSECustomerAlgorithm" in response
    plain = tag is not None and re.fullmatch("[0-9a-f]{32}", tag) is not None
    return Body(data, tag, tag if plain and not part and not encrypted else None)


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
