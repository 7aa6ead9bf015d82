"""Layout ``video``: a row is a frame of a film. Only packets are read, no picture is decoded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from padim_dist.archive.films.every import Every, ShownFrame
from padim_dist.archive.films.frames import Frames
from padim_dist.archive.films.names import NO_PICTURES, frame_name, is_film
from padim_dist.archive.films.opening import FilmError, films, open_film
from padim_dist.archive.listing.known_films import rows_of, whole_films
from padim_dist.archive.listing.layouts.base import (
    EXCLUDED,
    IMAGE_SUFFIXES,
    Listing,
    check_folder,
    refuse_unless_lasting,
    summary,
)
from padim_dist.archive.listing.spool import Batch, FoundImage, FoundMask, Note, Spool
from padim_dist.archive.listing.walk import THREADS, File, Page, in_threads, walk
from padim_dist.archive.rows import TAIL, image_id
from padim_dist.core.status import GOOD
from padim_dist.errors import ArchiveError, PadimDistError
from padim_dist.local_files import local_path
from padim_dist.redaction import redacted
from padim_dist.storage import Folder

logger = logging.getLogger("padim_dist")
_ANOMALY = "anomaly"
_BLOCK, _ROWS = 2**22, 1000
_MASK = re.compile(r"(?P<folder>(?:.*/)?ground_truth/[^/]+)/(?P<number>\d+)\.[^./]+")


def list_images(listing: Listing, spool: Spool) -> None:
    """List the frames of the films below a folder, several films at once.

    The frames of a film that is as it was are taken from the manifest before. Split and group of a
    frame come from the path of its film. Masks are pictures named by the number of their frame in
    the film, from 0: ``ground_truth/<name of the film>/<number>.png``, beside the film or its
    folder. If there is such a folder, frames with a mask have the label ``anomaly``, and the others
    ``good``. What cannot be read of a film becomes one row.

    Raises
    ------
    ConfigError
        If PyAV is not installed.
    ArchiveError
        If there is no such folder, it has no film, or it cannot be listed.
    """
    films()
    archive = listing.archive
    check_folder(archive)
    found, masked = [], set[str]()
    for page in walk(archive, workspace=listing.workspace):
        own, batch = _sort_out(listing, page, masked)
        found += own
        spool.add(batch)
    known, frames, fine = set[str](), 0, list[str]()
    if listing.before:
        known = _known(listing.before, archive, found, masked)
        for rows in rows_of(listing.before, known):
            spool.add_known(rows)
            frames += len(rows)
            listing.tell(frames)
    others = (file for file in found if file.uri(archive) not in known)
    scans = (_Scan(archive, file, listing, masked, fine).batches() for file in others)
    for batch in in_threads(scans, THREADS):
        spool.add(batch)
        frames += len(batch.images)
        listing.tell(frames)
    if not spool.images:
        raise ArchiveError(
            f"archive.url {archive.url} has no film (found: {summary(spool.ignored)}); films end "
            "in .mp4, .mkv, .avi or .mov. Check archive.url and archive.layout"
        )
    if fine:
        logger.warning(
            "archive.video.every is finer than the frames of some films (%d, e.g. %s): each of "
            "their frames is a row once",
            len(fine),
            redacted(min(fine)),
        )


def _sort_out(listing: Listing, page: Page, masked: set[str]) -> tuple[list[File], Batch]:
    """Return the films of a page, and its masks; add the folders of these."""
    found, batch = [], Batch(ignored=page.ignored)
    for file in page.files:
        suffix = PurePosixPath(file.path).suffix.lower()
        if listing.is_excluded(file.path):
            batch.ignored[EXCLUDED] += 1
        elif is_film(file.path):
            found.append(file)
        elif suffix in IMAGE_SUFFIXES and (match := _MASK.fullmatch(file.path)):
            key = f"{match['folder']}/{int(match['number'])}"
            uri = file.uri(listing.archive)
            masked.add(match["folder"])
            batch.masks.append(FoundMask(key, uri, uri, 0))
            batch.notes.append(Note(key, 1, label=_ANOMALY))
            batch.ignored["masks"] += 1
        else:
            batch.ignored[suffix or "(no suffix)"] += 1
    return found, batch


def _known(before: Path, archive: Folder, found: Sequence[File], masked: set[str]) -> set[str]:
    """Return the addresses of films that are as they were when the manifest before was made."""
    films = whole_films(before)
    return {
        uri
        for file in found
        if films.get(uri := file.uri(archive)) == (file.size, file.tag)
        and _masks_of(file, masked) is None
    }


def _masks_of(film: File, masked: set[str]) -> str | None:
    """Return the folder with the masks of a film; None if there is none."""
    path = PurePosixPath(film.path)
    folders = (path.parent, path.parent.parent)
    names = [(folder / "ground_truth" / path.stem).as_posix() for folder in folders]
    return next((name for name in names if name in masked), None)


@dataclass(eq=False)
class _Scan:
    """Scan of one film for its frames.

    `masked` are the folders that have masks; `fine` gets films that ``every`` is too fine for.
    """

    home: Folder
    film: File
    listing: Listing
    masked: set[str]
    fine: list[str]
    _passed: int = 0
    _batch: Batch = field(default_factory=Batch)

    def batches(self) -> Iterator[Batch]:
        """Yield the frames of the film, a thousand at a time."""
        try:
            yield from self._batches()
        except PadimDistError:  # of settings
            raise
        except Exception as error:  # HTTP clients raise errors of any class
            refuse_unless_lasting(error, self.home, self._uri)
            yield self._with_rest(TAIL)

    def _batches(self) -> Iterator[Batch]:
        with self.home.fs.open(local_path(self._uri), "rb", block_size=_BLOCK) as file:
            try:
                film = open_film(file)
            except FilmError as error:
                yield self._with_rest(NO_PICTURES if error.is_empty else TAIL)
                return
            frames, every = Frames(film), Every.parse(self.listing.every)
            try:
                make, count = self._maker(), 0
                for frame in every.choose(frames):
                    self._batch.images.append(make(frame))
                    count += 1
                    self._passed = frame.start + frame.length
                    if len(self._batch.images) == _ROWS:
                        batch, self._batch = self._batch, Batch()
                        yield batch
            finally:
                film.container.close()
        if every.is_finer_than(frames.shortest):
            self.fine.append(self._uri)
        if frames.is_cut:
            yield self._with_rest(TAIL)
        elif not count:
            yield self._with_rest(NO_PICTURES)
        else:
            yield self._batch

    def _maker(self) -> Callable[[ShownFrame], FoundImage]:
        """Return the function that makes the row of a frame."""
        masks = _masks_of(self.film, self.masked)
        image = partial(
            FoundImage,
            uri=self._uri,
            size=self.film.size,
            etag=self.film.tag,
            group=self.listing.find_group(self.film.path),
            split=self.listing.find_split(self.film.path),
            label=GOOD if masks else None,
        )

        def make(frame: ShownFrame) -> FoundImage:
            name, key = frame_name(frame.time), f"{masks}/{frame.number}" if masks else None
            return image(
                image_id=image_id(f"{self.film.path}/{name}"),
                member=name,
                offset=frame.start,
                length=frame.length,
                key=key,
                masks=(key,) if key else (),
            )

        return make

    def _with_rest(self, member: str) -> Batch:
        """Return the last frames, and a row for what cannot be read of the film."""
        start = min(self._passed, self.film.size)
        row = FoundImage(
            image_id=image_id(f"{self.film.path}/{member}"),
            uri=self._uri,
            member=member,
            offset=start,
            length=self.film.size - start,
            size=self.film.size,
            etag=self.film.tag,
            group=self.listing.find_group(self.film.path),
            split="test",
        )
        self._batch.images.append(row)
        return self._batch

    @property
    def _uri(self) -> str:
        return self.film.uri(self.home)
