"""Listing the files below a folder in pages, several folders at once.

A page holds about a thousand files, and memory holds about one page per thread, so an archive may
be of any size. Pages come in order of arrival.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from padim_dist.bodies import object_tag
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

THREADS = 16
_PAGE = 1000
Item = TypeVar("Item")


@dataclass(frozen=True)
class File:
    """A file of an archive.

    Attributes
    ----------
    path : str
        Path inside the archive.
    size : int
        In bytes.
    tag : str or None
        Its `object_tag`, equal to the tag when it is read.
    """

    path: str
    size: int
    tag: str | None


@dataclass(frozen=True)
class Page:
    """A part of the entries of a folder.

    Attributes
    ----------
    files, folders : list of File, list of str
        Files and folders in it; a folder as a path inside the archive with a trailing slash.
    ignored : Counter
        Number of entries that are neither, or have an unusable name, by reason.
    """

    files: list[File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, size: object, tag: str | None) -> None:
        """Add a file; if its name is not UTF-8, only count it."""
        if is_utf8(path):
            # Some stores give no size.
            self.files.append(File(path, int(str(size or 0)), tag))
        else:
            self.ignored["names that are not UTF-8"] += 1


def is_utf8(name: str) -> bool:
    """Return whether a name can be encoded as UTF-8, as tables need it."""
    return name.encode(errors="replace").decode() == name


def walk(archive: Folder, threads: int = THREADS) -> Iterator[Page]:
    """Yield the pages of a folder and of all folders below it, in no particular order.

    Links to folders are not followed. Entries that are not files, or that no URL can address, are
    counted in the pages.

    Raises
    ------
    ArchiveError
        If the store cannot list a folder: the listing would not be complete. (A local folder
        that cannot be opened is counted instead.)
    """
    list_folder = _s3 if "s3" in archive.fs.protocol else _other
    if archive.is_local:
        list_folder = _local

    def pages(folder: str) -> Iterator[Page]:
        try:
            yield from list_folder(archive, folder)
        except Exception as error:  # stores and HTTP clients raise errors of any class
            raise ArchiveError(
                f"{archive.at(folder)} cannot be listed ({type(error).__name__}: {error}). "
                "Run the same command again when it can be listed"
            ) from error

    return in_threads([pages("")], threads, lambda page: map(pages, page.folders))


def in_threads(
    sources: Iterable[Iterator[Item]],
    threads: int,
    follow: Callable[[Item], Iterable[Iterator[Item]]] = lambda _: (),
) -> Iterator[Item]:
    """Run iterators in threads, each one item at a time, and yield the items as they arrive.

    Parameters
    ----------
    sources : iterable of iterator
        Iterators to run; the next one is taken when a thread is idle.
    threads : int
        Number of iterators that run at once, and of items in memory.
    follow : callable, optional
        Maps an item to further iterators, which run before older ones.
    """
    sources = iter(sources)
    waiting: list[Iterator[Item]] = []
    running: dict[Future[Item | None], Iterator[Item]] = {}
    item: Item | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="listing") as pool:
        try:
            while True:
                while len(running) < threads:
                    # The newest first (depth first), so that few iterators wait.
                    source = waiting.pop() if waiting else next(sources, None)
                    if source is None:
                        break
                    running[pool.submit(next, source, None)] = source
                if item is not None:
                    yield item  # while the threads fetch the next ones
                if not running:
                    return
                future = wait(running, return_when=FIRST_COMPLETED).done.pop()
                source, item = running.pop(future), future.result()
                if item is not None:
                    waiting.append(source)
                    waiting.extend(follow(item))
        finally:
            for future in running:
                future.cancel()


def _local(archive: Folder, folder: str) -> Iterator[Page]:
    fs = archive.fs
    try:
        entries = os.scandir(archive.at(folder))
    except (PermissionError, FileNotFoundError):
        yield Page(ignored=Counter({"folders that cannot be opened": 1}))
        return
    with entries:
        while chunk := list(islice(entries, _PAGE)):
            page = Page()
            for entry in chunk:
                path = folder + entry.name
                try:
                    info = fs.info(entry)
                except FileNotFoundError:
                    page.ignored["files deleted during the listing"] += 1
                    continue
                linked = info["islink"]
                if linked:
                    info = _target(archive, path)
                if info["type"] == "file":
                    page.add(path, info["size"], object_tag(info))
                elif info["type"] != "directory":
                    page.ignored["devices, pipes and sockets"] += 1
                elif linked:
                    page.ignored["links to folders, which are not followed"] += 1
                else:
                    page.folders.append(f"{path}/")
            yield page


def _target(archive: Folder, path: str) -> dict[str, Any]:
    """Return the info of a link's target; a broken link counts as a file, and reading it fails."""
    try:
        info: dict[str, Any] = archive.fs.info(archive.at(path))
    except OSError:
        return {"type": "file", "size": 0}
    return info


def _s3(archive: Folder, folder: str) -> Iterator[Page]:
    """Yield the pages of the store, so that a folder of any size needs little memory."""
    fs = archive.fs
    bucket, key, _ = fs.split_path(archive.url)
    root = f"{key}/" if key else ""
    more: dict[str, str] = {}
    while True:
        answer = fs.call_s3(
            "list_objects_v2", Bucket=bucket, Prefix=root + folder, Delimiter="/", **more
        )
        page = Page([], [p["Prefix"].removeprefix(root) for p in answer.get("CommonPrefixes", [])])
        for info in answer.get("Contents", []):
            path = info["Key"].removeprefix(root)
            whole = fs.split_path(archive.at(path)) == (bucket, info["Key"], None)
            if info["Key"].endswith("/") and not info["Size"]:
                page.ignored["folder markers"] += 1
            elif whole and _can_be_addressed(path):
                page.add(path, info["Size"], object_tag(info))
            else:
                page.ignored["names that no URL can address"] += 1
        yield page
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _other(archive: Folder, folder: str) -> Iterator[Page]:
    """Yield one page per folder, for all other stores."""
    fs = archive.fs
    root = fs._strip_protocol(archive.url).rstrip("/") + "/"
    page = Page()
    for info in fs.ls(archive.at(folder).rstrip("/"), detail=True):
        path = info["name"].removeprefix(root)
        if info["name"].rstrip("/") + "/" == root + folder:
            page.ignored["folder markers"] += info["type"] != "directory"
        elif info["type"] == "directory":
            page.folders.append(path.rstrip("/") + "/")
        elif _can_be_addressed(path):
            page.add(path, info["size"], object_tag(info))
        else:
            page.ignored["names that no URL can address"] += 1
    yield page


def _can_be_addressed(path: str) -> bool:
    """Return whether a URL that ends in this path leads to exactly this path.

    Empty names between slashes are lost in a URL, and fsspec reads ``::`` as a chain of file
    systems.
    """
    folder, _, name = path.rpartition("/")
    return bool(name) and "::" not in folder and "" not in path.split("/")
