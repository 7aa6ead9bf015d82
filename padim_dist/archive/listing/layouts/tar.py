"""Layout ``tar``: images inside tar files, found by their byte ranges.

Only headers and small sidecars are read. Nothing is extracted, and the names of members are
never used as local paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from tarfile import TarInfo
from typing import IO

from padim_dist.archive.listing.layouts import mvtec
from padim_dist.archive.listing.layouts.base import (
    EXCLUDED,
    IMAGE_SUFFIXES,
    Listing,
    refuse_unless_lasting,
    summary,
)
from padim_dist.archive.listing.layouts.tar_headers import Headers
from padim_dist.archive.listing.layouts.tar_sidecars import MOST_BYTES, key_of, read_note
from padim_dist.archive.listing.names import as_text, kind_of_path
from padim_dist.archive.listing.spool import Batch, FoundImage, FoundMask, Note, Spool
from padim_dist.archive.listing.walk import THREADS, File, in_threads, walk
from padim_dist.archive.rows import TAIL, image_id
from padim_dist.bodies import object_tag
from padim_dist.errors import ArchiveError, PadimDistError
from padim_dist.local_files import local_path
from padim_dist.storage import Folder

_COMPRESSED = re.compile(r"\.(tar\.[a-z0-9]+|tgz|tbz2?|txz|tzst|taz|tlz)$")
_MASK = re.compile(r"(^|/)ground_truth/[^/]+/[^/]+$")
# Bytes of a read. Most images are smaller, so one read brings several headers; larger images are
# skipped.
_BLOCK = 2**18


def list_images(listing: Listing, spool: Spool) -> None:
    """List the images inside one tar file or those of a folder, several files at once.

    The path of a member inside the archive is that of its tar file without ``.tar``, a slash, and
    its name. Group, label, split and mask of an image come from sidecars with the same key (its
    name up to the first dot): ``.json`` with ``group``, ``label`` and ``split``, ``.cls`` with the
    label, ``.mask.png``. Without sidecars they come from the folders of MVTec AD, if its path has
    them; otherwise ``archive.train`` gives the split. The damaged tail of a file becomes one row.

    Raises
    ------
    ArchiveError
        If there is no such folder or file, it has no image, or it cannot be listed.
    """
    archive = listing.archive
    if not archive.exists():
        raise ArchiveError(f"archive.url {archive.url} does not exist; give a folder of tar files")
    home, files = archive, _files(listing, spool)
    if archive.fs.isfile(archive.url):
        folder, _, name = archive.url.rpartition("/")
        if not name.lower().endswith(".tar"):
            raise ArchiveError(
                f"archive.url {archive.url} is not a .tar file (compressed ones cannot be read by "
                "range); give a .tar file, or a folder of .tar files"
            )
        info = archive.fs.info(archive.url)
        home = Folder(folder or "/", archive.options)
        files = iter([File(name, int(info["size"] or 0), object_tag(info))])
    found = 0
    for batch in in_threads((_Scan(home, f, listing).batches() for f in files), THREADS):
        spool.add(batch)
        found += len(batch.images)
        listing.tell(found)
    if not spool.images:
        raise ArchiveError(
            f"archive.url {archive.url} has no image in a tar file (found: "
            f"{summary(spool.ignored)}); check archive.url and archive.layout"
        )


def _files(listing: Listing, spool: Spool) -> Iterator[File]:
    """Yield the tar files of a folder; count the other files."""
    for page in walk(listing.archive, workspace=listing.workspace):
        spool.ignored.update(page.ignored)
        for file in page.files:
            name = file.path.lower()
            if listing.is_excluded(file.path):
                spool.ignored[EXCLUDED] += 1
            elif name.endswith(".tar"):
                yield file
            elif _COMPRESSED.search(name):
                spool.ignored["compressed tar files, which cannot be read by range"] += 1
            else:
                spool.ignored[PurePosixPath(name).suffix or "(no suffix)"] += 1


@dataclass(frozen=True)
class _Scan:
    """Scan of one tar file for images."""

    home: Folder
    tar: File
    listing: Listing

    def batches(self) -> Iterator[Batch]:
        """Yield the contents of the file, a thousand members at a time."""
        headers: Headers | None = None
        batch = Batch()
        try:
            with self.home.fs.open(local_path(self._uri), "rb", block_size=_BLOCK) as file:
                headers = Headers(file)
                for number, member in enumerate(headers, 1):
                    self._sort_out(member, headers, file, batch)
                    if number % 1000 == 0:
                        yield batch
                        batch = Batch()
        except PadimDistError:  # of settings
            raise
        except Exception as error:  # HTTP clients raise errors of any class
            refuse_unless_lasting(error, self.home, self._uri)
            self._add_tail(batch, headers.offset if headers else 0, self.tar.size)
        else:
            if headers.tail is not None:
                self._add_tail(batch, headers.tail, headers.size)
            if not headers.size:
                batch.ignored["empty tar files"] += 1
            if headers.goes_on:
                batch.ignored["tar files with data after their end"] += 1
        yield batch

    def _sort_out(self, member: TarInfo, headers: Headers, file: IO[bytes], batch: Batch) -> None:
        if not member.isreg() or member.issparse():
            batch.ignored["links, folders, devices and sparse files in tar files"] += 1
            return
        name = as_text(member.name.removeprefix("./"))
        suffix = PurePosixPath(name).suffix.lower()
        key, kind = key_of(name)
        cut_short = member.offset_data + member.size > headers.size
        if hidden := kind_of_path(name):
            batch.ignored[f"{hidden} files"] += 1
        elif self.listing.is_excluded(self._path(name)):
            batch.ignored[EXCLUDED] += 1
        elif suffix in IMAGE_SUFFIXES and kind != "mask.png" and not _MASK.search(self._path(name)):
            batch.images.append(self._member(name, key, member, headers.size))
            return
        elif suffix in IMAGE_SUFFIXES:
            batch.ignored["masks"] += 1
            start = member.offset_data
            uri = f"{self._uri}#bytes={start}-{start + member.size}"
            for path in {self._inside(name), self._path(name), name}:
                batch.masks.append(FoundMask(path, uri, self._uri, start))
        elif kind in ("json", "cls"):
            note = None
            if member.size <= MOST_BYTES and not cut_short:
                file.seek(member.offset_data)
                note = read_note(kind, file.read(member.size))
            if note is None:
                batch.ignored["sidecars that are too large or invalid"] += 1
            else:
                # A later member replaces an earlier one; JSON takes precedence over a class.
                rank = member.offset_data + (2**62 if kind == "json" else 0)
                batch.notes.append(Note(self._inside(key), rank, **note))
        else:
            batch.ignored[suffix or "(no suffix)"] += 1
        if cut_short:
            # A truncated image has a row of its own, added above.
            self._add_tail(batch, member.offset, headers.size)

    def _member(self, name: str, key: str, member: TarInfo, size: int) -> FoundImage:
        path = self._path(name)
        inside, elsewhere = mvtec.find_place(name), mvtec.find_place(path)
        names = inside.mask if inside else ()
        masks = [self._inside(f"{key}.mask.png"), *map(self._inside, names)]
        masks += [*(elsewhere.mask if elsewhere else ()), *names]
        return replace(
            self._image(name, member.offset_data, member.size, size),
            split=elsewhere.split if elsewhere else self.listing.find_split(path),
            label=elsewhere.label if elsewhere else None,
            key=self._inside(key),
            masks=tuple(dict.fromkeys(masks)),
        )

    def _add_tail(self, batch: Batch, offset: int, size: int) -> None:
        if self.listing.is_excluded(self._path(TAIL)):
            batch.ignored[EXCLUDED] += 1
        else:
            batch.images.append(self._image(TAIL, offset, size - offset, size))

    def _image(self, name: str, offset: int, length: int, size: int) -> FoundImage:
        return FoundImage(
            image_id=image_id(self._inside(name)),
            uri=self._uri,
            member=name,
            offset=offset,
            length=length,
            size=size,
            etag=self.tar.tag,
            group=self.listing.find_group(self._path(name)),
            split="test",
        )

    @property
    def _uri(self) -> str:
        return self.tar.uri(self.home)

    def _inside(self, name: str) -> str:
        """Return the name of a member, unique among all tar files."""
        return f"{self.tar.path}/{name}"

    def _path(self, name: str) -> str:
        """Return the path of a member in the archive, with its tar file as a folder."""
        return f"{self.tar.path[:-4]}/{name}"
