"""Folders of any fsspec file system; only this module and `local_files` open files.

A task carries a `Folder`, which is a URL and its options. Each process builds its own file
systems.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

from padim_dist.bodies import Body, get_body, object_tag, read_regular
from padim_dist.errors import DamagedFileError, RequestError
from padim_dist.local_files import local_path, write_local
from padim_dist.s3.reads import read_object

Options = Mapping[str, Mapping[str, Any]]

# Defaults for botocore: more parallel requests than its 10, and no validation of our own calls,
# which is a fifth of the cost of a GET.
_S3_CONFIG = {"max_pool_connections": 64, "parameter_validation": False}

_PATIENCE, _PAUSE = 30.0, 0.1
"""Seconds for which a folder is removed again if others write into it, and between attempts."""


@dataclass(frozen=True)
class Folder:
    """A folder by URL.

    Parameters
    ----------
    url : str
        Any fsspec URL; a local path is made absolute. A ``file://`` address becomes a local path.
    options : mapping
        Options for fsspec by protocol, e.g. ``{"s3": {"endpoint_url": ...}}``.
    is_closed : bool
        Whether no path leads out of it: paths and ids in a workspace come from files and users.

    Examples
    --------
    >>> folder = Folder("memory://audit")
    >>> folder.put("runs/a.json", b"{}")
    >>> folder.exists("runs/a.json"), folder.list("runs")
    (True, ['a.json'])
    >>> Folder("memory://audit", is_closed=True).at("nights/../../x")
    Traceback (most recent call last):
    padim_dist.errors.RequestError: path 'nights/../../x' leads out of memory://audit...
    """

    url: str
    options: Options = field(default_factory=dict, repr=False)
    is_closed: bool = False

    def __post_init__(self) -> None:
        url = local_path(self.url)
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
        """Return the URL (or local path) of a path inside the folder.

        Raises
        ------
        RequestError
            If the folder is closed and the path leads out of it.
        """
        path = "/".join(parts)
        if self.is_closed and ".." in path.split("/"):
            raise RequestError(
                f"path {path!r} leads out of {self.url}; correct the id, or the file that names "
                "this path"
            )
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
            if "s3" in fs.protocol:
                return read_object(fs, target, start, stop, timeout)
            body: Body = sync(fs.loop, get_body, fs, target, start, stop, timeout=timeout)
            return body
        data = (
            read_regular(target, start, stop) if self.is_local else fs.cat_file(target, start, stop)
        )
        return Body(bytes(data), object_tag(fs.info(target)))

    def check_there(self, timeout: float | None = None) -> None:
        """Check that the folder (or file) exists and, if it is a local folder, is not empty.

        A share that is not mounted leaves an empty folder. On S3 it costs one or two requests.

        Raises
        ------
        FileNotFoundError
            If it does not exist, or is an empty local folder.
        TimeoutError
            As `read_body`.
        """
        fs = self.fs
        if isinstance(fs, AsyncFileSystem):
            sync(fs.loop, fs._info, self.url, timeout=timeout)
        elif fs.info(self.url)["type"] == "directory" and self.is_local:
            with os.scandir(self.url) as entries:
                if next(entries, None) is None:
                    raise FileNotFoundError(errno.ENOENT, "the folder is empty", self.url)

    def read_json(self, path: str) -> dict[str, Any]:
        """Return the object in a JSON file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        DamagedFileError
            If its content is no JSON object; `padim_dist.store.records` checks the fields.
        """
        data = self.read(path)
        try:
            value = json.loads(data)
        except ValueError as error:  # no UTF-8, or no JSON
            found = f"it is not JSON ({error})" if data else "it is empty"
            raise DamagedFileError(self.at(path), found) from None
        except RecursionError:
            raise DamagedFileError(self.at(path), "its JSON is nested too deeply") from None
        if not isinstance(value, dict):
            found = f"it is no JSON object but a {type(value).__name__}"
            raise DamagedFileError(self.at(path), found)
        return value

    def find_json(self, path: str) -> dict[str, Any] | None:
        """Return the object in a JSON file; None where there is no file. Raises as `read_json`."""
        try:
            return self.read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, path: str, data: bytes) -> None:
        """Write a file atomically: readers see the old or the new one."""
        fs, target = self.fs, self.at(path)
        if isinstance(fs, LocalFileSystem):
            write_local(target, lambda draft: draft.write_bytes(data))
        else:
            fs.pipe_file(target, data)

    def put_file(self, path: str, source: Path) -> None:
        """Write a copy of a local file atomically, a piece at a time."""
        fs, target = self.fs, self.at(path)
        if isinstance(fs, LocalFileSystem):
            write_local(target, lambda draft: shutil.copyfile(source, draft))
        else:
            fs.put_file(str(source), target)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file atomically unless it exists; return whether it was written.

        Of several simultaneous writers one succeeds, and the file is complete.
        """
        fs, target = self.fs, self.at(path)
        try:
            if isinstance(fs, LocalFileSystem):
                write_local(target, lambda draft: draft.write_bytes(data), os.link)
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
        """Remove a folder and its contents if it exists.

        Others may still write into it, or remove it as well, for some seconds.
        """
        end = time.monotonic() + _PATIENCE
        while self.exists(path):
            try:
                self.fs.rm(self.at(path), recursive=True)
                return
            except OSError as error:
                passes = isinstance(error, FileNotFoundError) or error.errno == errno.ENOTEMPTY
                if not passes or time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)

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
