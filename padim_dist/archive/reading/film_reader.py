"""Reading frames of films: each row gives one outcome, as of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from padim_dist.archive.reading.films import FilmPass
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.requests import FilmRequest
from padim_dist.archive.reading.threads import OverdueError, timed_part, within
from padim_dist.archive.reading.transform import prepare_aligned
from padim_dist.archive.rows import ImageRow
from padim_dist.core.align.search import Aligner
from padim_dist.core.geometry import InputGeometry
from padim_dist.core.status import TIMEOUT
from padim_dist.errors import ImageError, RunError
from padim_dist.telemetry.measures import timed

T = TypeVar("T")


@dataclass(frozen=True)
class FilmReader:
    """Reader of the frames of films; see `ImageReader` for its attributes."""

    fetcher: ObjectFetcher
    geometry: InputGeometry
    max_pixels: int
    deadline: float
    aligner: Aligner | None = None

    def begin(self) -> FilmPass:
        """Return a decoder, for `read`."""
        return FilmPass(self.fetcher, self.max_pixels)

    def read(self, request: FilmRequest, film: FilmPass) -> Iterator[LoadedImage]:
        """Yield the outcome of each row of a request, as its frame comes.

        Raises
        ------
        RunError
            If the store is ill, or memory runs out.
        """
        try:
            with timed("decode"):
                for row, frame in film.read(request.rows):
                    if isinstance(frame, ImageError):
                        yield LoadedImage(row, status=frame.status, error=frame.reason)
                        continue
                    form = frame.form
                    with timed_part():
                        pixels, found = prepare_aligned(frame.pixels, self.geometry, self.aligner)
                    yield LoadedImage(
                        row,
                        pixels,
                        form.width,
                        form.height,
                        captured_at=frame.captured_at,
                        alignment=found,
                        form=form,
                    )
        except MemoryError as error:
            raise RunError(
                f"this worker ran out of memory while decoding {request.uri}. Lower "
                "cluster.workers, cluster.readers or archive.max_pixels, then run the same command "
                "again: it resumes"
            ) from error

    def load(self, request: FilmRequest) -> LoadedImage:
        """Load the only frame of a request; see `read` for the errors."""
        film = self.begin()
        try:
            (image,) = self._within(film, lambda: [*self.read(request, film)])
        except OverdueError:
            return self.too_slow(request.rows[0], film)
        return image

    def load_original(self, request: FilmRequest) -> Tensor:
        """Load the only frame of a request at its original size: uint8, shape (3, height, width).

        Raises
        ------
        ImageError, RunError
            If it cannot be read or decoded.
        """
        film = self.begin()
        try:
            ((_, frame),) = self._within(film, lambda: [*film.read(request.rows)])
        except OverdueError:
            raise self._overdue(film) from None
        if isinstance(frame, ImageError):
            raise frame
        return frame.pixels

    def too_slow(self, row: ImageRow, film: FilmPass) -> LoadedImage:
        """Return the outcome of a frame whose film exceeded a deadline.

        Raises
        ------
        RunError
            If the store is ill.
        """
        error = self._overdue(film)
        return LoadedImage(row, status=error.status, error=error.reason)

    def deadline_of(self, film: FilmPass) -> float:
        """Return how long what a decoder does now may take: a read of the film, or the rest."""
        is_read = film.file is not None and film.file.request is not None
        return self.fetcher.deadline if is_read else self.deadline

    def _within(self, film: FilmPass, work: Callable[[], T]) -> T:
        """Call a function of a decoder within its deadlines, and close the decoder."""

        def closing() -> T:
            try:
                return work()
            finally:
                film.close()

        return within(lambda: self.deadline_of(film), closing)

    def _overdue(self, film: FilmPass) -> ImageError:
        if film.file and (request := film.file.request):
            return self.fetcher.give_up(request)
        return ImageError(
            TIMEOUT, f"decoding it took longer than archive.decode_deadline = {self.deadline:g} s"
        )
