"""Listing the files below a folder in pages, several folders at once.

A page holds about a thousand files, and memory holds about one page per thread, so an archive may
be of any size. Pages come in order of arrival.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar
from urllib.parse import quote

from padim_dist.archive.listing.names import as_text, is_utf8, kind_of
from padim_dist.bodies import object_tag
from padim_dist.errors import ArchiveError
from padim_dist.storage import Folder

THREADS = 16
_PAGE = 1000
# Errors that say that a link leads nowhere; others, such as EIO, concern the store.
BROKEN = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES}
TOO_LONG = "paths of more than 4,096 bytes, which cannot be opened"
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
    address : str or None
        Where to read it, if its name is not UTF-8 and `path` has some bytes as ``%XX``.
    """

    path: str
    size: int
    tag: str | None
    address: str | None = None

    def uri(self, archive: Folder) -> str:
        """Return where to read it."""
        return self.address or archive.at(self.path)


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
        """Add a file; if no URL can address it, only count it."""
        if is_utf8(path):
            self.files.append(File(path, int(str(size or 0)), tag))  # some stores give no size
        else:
            self.ignored["names that no URL can address"] += 1


def walk(archive: Folder, threads: int = THREADS, workspace: str | None = None) -> Iterator[Page]:
    """Yield the pages of a folder and of all folders below it, in no particular order.

    Hidden folders, those of systems, links to folders and the workspace are not followed. They
    are counted in the pages, and so are entries that are not regular files, have such a name or
    one that no URL can address.

    Parameters
    ----------
    archive : Folder
        The folder.
    threads : int
        Number of folders that are listed at once.
    workspace : str, optional
        Path of the workspace inside the folder, which is not part of it.

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
            for page in list_folder(archive, folder):
                yield _select(page, workspace)
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


def _select(page: Page, workspace: str | None) -> Page:
    """Return a page without hidden and system names and without the workspace; count them."""
    chosen = Page(ignored=page.ignored)
    for file in page.files:
        if kind := kind_of(file.path.rpartition("/")[2]):
            chosen.ignored[f"{kind} files"] += 1
        else:
            chosen.files.append(file)
    for folder in page.folders:
        if kind := kind_of(folder.rstrip("/").rpartition("/")[2]):
            chosen.ignored[f"{kind} folders, which are not listed"] += 1
        elif folder.rstrip("/") == workspace:
            chosen.ignored["workspace inside the archive, which is not listed"] += 1
        else:
            chosen.folders.append(folder)
    return chosen


def _local(archive: Folder, folder: str) -> Iterator[Page]:
    try:
        entries = os.scandir(archive.at(folder))
    except (PermissionError, FileNotFoundError):
        yield Page(ignored=Counter({"folders that cannot be opened": 1}))
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        yield Page(ignored=Counter({TOO_LONG: 1}))
        return
    with entries:
        while chunk := list(islice(entries, _PAGE)):
            page = Page()
            for entry in chunk:
                _look_at(archive, folder, entry, page)
            yield page


def _look_at(archive: Folder, folder: str, entry: os.DirEntry[str], page: Page) -> None:
    """Add an entry of a local folder to a page, or count it. Only its type is looked up."""
    path = folder + entry.name
    try:
        info = archive.fs.info(entry)
    except FileNotFoundError:
        page.ignored["files deleted during the listing"] += 1
        return
    except PermissionError:  # a folder whose names may be read, but not its files
        page.ignored["files that cannot be looked up"] += 1
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        page.ignored[TOO_LONG] += 1
        return
    linked = info["islink"]
    if linked:
        try:
            info = archive.fs.info(archive.at(path))
        except OSError as error:
            if error.errno not in BROKEN:
                raise
            page.ignored["broken links"] += 1
            return
    if info["type"] == "file" and is_utf8(archive.at(path)):
        page.add(path, info["size"], object_tag(info))
    elif info["type"] == "file":
        address = f"file://{quote(os.fsencode(archive.at(path)))}"
        page.files.append(File(as_text(path), info["size"], object_tag(info), address))
    elif info["type"] != "directory":
        page.ignored["devices, pipes and sockets"] += 1
    elif linked:
        page.ignored["links to folders, which are not followed"] += 1
    else:
        page.folders.append(f"{path}/")


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
