"""Loading frames of films ahead: requests of one film take turns at its decoder."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from padim_dist.archive.reading.film_reader import FilmReader
from padim_dist.archive.reading.films import FilmPass
from padim_dist.archive.reading.loaded import LoadedImage
from padim_dist.archive.reading.requests import FilmRequest
from padim_dist.archive.reading.threads import Call, Crew
from padim_dist.archive.rows import ImageRow


@dataclass(eq=False)
class FilmLoad:
    """A request of a film that is being read.

    Attributes
    ----------
    images : list of Future
        The outcome of each row, as it comes.
    film : FilmPass or None
        The decoder, while it is at work.
    call : Call or None
        The call that reads.
    """

    request: FilmRequest
    reader: FilmReader
    images: list[Future[LoadedImage]]
    film: FilmPass | None = None
    call: Call[None] | None = None
    _turn: Future[FilmPass] = field(default_factory=Future)

    def begin(self, crew: Crew, before: FilmLoad | None) -> None:
        """Let a thread read it, with the decoder of the request before it of the same film."""
        # Threads take calls in order, so the one before has begun.
        turn = before._turn if before else None
        self.call = crew.submit(lambda: self._read(turn))

    def end(self) -> None:
        """Close the film as soon as it is read; no request follows."""
        self._turn.add_done_callback(lambda turn: turn.result().close())

    @property
    def deadline(self) -> float:
        """Seconds that may pass for what is done now: a read, or the decoding of a frame."""
        return self.reader.deadline_of(self.film) if self.film else self.reader.deadline

    def too_slow(self, row: ImageRow) -> LoadedImage:
        """Return the outcome of a row that exceeded a deadline; the next request goes on anew."""
        film = self.film or self.reader.begin()
        self._hand_on(self.reader.begin())
        return self.reader.too_slow(row, film)

    def _read(self, turn: Future[FilmPass] | None) -> None:
        waiting = dict(zip(self.request.rows, self.images, strict=True))
        film = self.film = turn.result() if turn else self.reader.begin()
        try:
            for image in self.reader.read(self.request, film):
                waiting.pop(image.row).set_result(image)
        except BaseException as error:
            for future in waiting.values():
                future.set_exception(error)
        self._hand_on(film)

    def _hand_on(self, film: FilmPass) -> None:
        try:
            self._turn.set_result(film)
        except InvalidStateError:  # it was given up in the meantime
            film.close()
