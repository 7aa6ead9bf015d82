"""Frames of films: one pass of a decoder, from a key frame, gives many rows."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from padim_dist.archive.films.names import frame_time
from padim_dist.archive.films.opening import Film, FilmError, films, open_film, reason_of
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.ranges import RangeFile
from padim_dist.archive.reading.threads import timed_part
from padim_dist.archive.rows import ImageRow
from padim_dist.core.pictures.forms import Form
from padim_dist.core.status import TIMEOUT, TOO_LARGE, UNAVAILABLE, UNREADABLE
from padim_dist.errors import ImageError, RunError

if TYPE_CHECKING:
    from datetime import datetime

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    _Shown = Generator[tuple[int, VideoFrame | None], None, None]

_BEYOND = 32
"""Frames after the last one asked for, until those that did not come are given up."""
_NO_PICTURE = "the decoder gives no picture at this time: the film is cut or damaged here"


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes
    ----------
    pixels : Tensor
        uint8, shape (3, height, width), upright.
    form : Form
        Its size, upright, and the bits and colour of the film.
    captured_at : datetime or None
        When it was taken, if the film says so.
    """

    pixels: Tensor
    form: Form
    captured_at: datetime | None


class FilmPass:
    """A decoder of one film that goes on where it ended if later frames are asked for.

    Parameters
    ----------
    fetcher : ObjectFetcher
        Reads the film, in ranges.
    max_pixels : int
        Maximum pixels of a frame.
    """

    def __init__(self, fetcher: ObjectFetcher, max_pixels: int) -> None:
        self._fetcher, self._max_pixels = fetcher, max_pixels
        self._object: tuple[str, str | None] | None = None
        self._film: Film | None = None
        self._shown = _nothing()
        self._at: int | None = None
        self._decoded: int | None = None
        self.file: RangeFile | None = None

    def read(self, rows: Collection[ImageRow]) -> Iterator[tuple[ImageRow, Frame | ImageError]]:
        """Yield the frames of rows of one film, as they come; each row once.

        Raises
        ------
        RunError
            If the store is ill, or memory runs out.
        """
        wanted = {time: row for row in rows if (time := frame_time(row)) is not None}
        error = ImageError(UNREADABLE, _NO_PICTURE)
        for _ in range(2):  # the rows that are left once more, if a read of the film has failed
            try:
                yield from self._attempt(wanted)
                break
            except FilmError as found:
                error = ImageError(UNREADABLE, str(found))
                self.close()
                break
            except ImageError as found:
                error = found
                self.close()
                if found.status not in (UNAVAILABLE, TIMEOUT):
                    break
            except RunError:
                self.close()
                raise
        for row in wanted.values():
            yield row, error

    def _attempt(
        self, wanted: dict[int, ImageRow]
    ) -> Iterator[tuple[ImageRow, Frame | ImageError]]:
        """Yield the frames of rows by their times, and take these out."""
        film = self._open(next(iter(wanted.values())))
        for _ in range(2):  # frames that an odd order has passed by come in a second pass
            for time, frame in self._passing(film, wanted):
                yield wanted.pop(time), frame
            if not wanted:
                return
            self._at = None

    def close(self) -> None:
        """Let the film and its decoder go; a later read opens it again."""
        self._shown.close()
        self._shown = _nothing()
        if self._film is not None:
            self._film.container.close()
        self._film = self._object = self._at = self._decoded = None

    def _open(self, row: ImageRow) -> Film:
        if self._film is None or self._object != (row.uri, row.etag):
            self.close()
            self.file = RangeFile(self._fetcher, row)
            with timed_part():
                self._film = open_film(self.file)
                # Workers share the cores; with several threads here errors would come late.
                decoder = self._film.stream.codec_context
                decoder.thread_count = 1
                # Of sizes that change inside; codecs round sizes up.
                decoder.options = {"max_pixels": str(2 * self._max_pixels + 2**16)}
            self._object, self._at = (row.uri, row.etag), None
        decoder = self._film.stream.codec_context
        self._check_size(decoder.width, decoder.height)
        return self._film

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise ImageError(
                TOO_LARGE,
                f"{width}x{height} pixels are more than archive.max_pixels = {self._max_pixels}",
            )

    def _passing(
        self, film: Film, wanted: Collection[int]
    ) -> Iterator[tuple[int, Frame | ImageError]]:
        first, last, beyond = min(wanted), max(wanted), 0
        left = set(wanted)
        if self._at is None or first <= self._at or self._is_key_frame_ahead(film, first):
            self._seek(film, first)
        while left and beyond < _BEYOND:
            with timed_part():
                shown = next(self._shown, None)
                if shown is None:
                    self._at = None
                    return
                time, frame = shown
                self._at = max(time, time if self._at is None else self._at)
                beyond += time > last
                if time not in left:
                    continue
                found = self._pixels(film, time, frame)
            left.remove(time)
            yield time, found

    def _pixels(self, film: Film, time: int, frame: VideoFrame | None) -> Frame | ImageError:
        if frame is None:
            return ImageError(
                UNREADABLE, "the film is damaged here, or at a frame that this one refers to"
            )
        try:
            self._check_size(frame.width, frame.height)
        except ImageError as error:
            return error
        decoded: npt.NDArray[Any] = frame.to_ndarray(format="rgb24")
        pixels = upright(decoded, display_matrix(frame))
        began = film.began_at
        captured_at = began and began + timedelta(milliseconds=time)
        height, width = pixels.shape[:2]
        grey = frame.format.name.startswith(("gray", "mono", "ya"))
        form = Form(width, height, frame.format.components[0].bits, grey)
        return Frame(torch.from_numpy(pixels).permute(2, 0, 1), form, captured_at)

    def _is_key_frame_ahead(self, film: Film, time: int) -> bool:
        """Return whether a key frame lies between what was decoded and a time."""
        entries = film.stream.index_entries
        found = entries.search_timestamp(_place(film, time)) if len(entries) else -1
        if found < 0 or self._decoded is None:
            return False
        return bool(entries[found].timestamp > self._decoded)

    def _seek(self, film: Film, time: int) -> None:
        """Go to the last key frame that is shown at a time or before it, and is decoded first."""
        place, first = _place(film, time), None
        av = films()
        while True:
            try:
                film.container.seek(place, stream=film.stream)
                packets = film.container.demux(film.stream)
                packet = next(packets, None)
            except av.FFmpegError as error:
                film.check()
                raise FilmError(f"it is damaged: {reason_of(error)}") from None
            film.check()
            begins = None if packet is None else (packet.pts, packet.dts, packet.pos)
            shown = None if packet is None else film.time_of(packet)
            # The pictures before the key frame of an open group need the group before it.
            if shown is None or packet is None or shown <= time or begins == first:
                break
            first = begins
            place = (packet.dts if packet.dts is not None else packet.pts or 0) - 1
        self._at = self._decoded = None
        self._shown = self._decode(film, packet, packets)

    def _decode(
        self,
        film: Film,
        first: Packet[VideoStream] | None,
        packets: Iterator[Packet[VideoStream]],
    ) -> _Shown:
        """Yield the time of every frame, and the frame; None if damage has spoilt it."""
        av = films()
        packet, is_broken = first, False
        whole_from = None if first is None else film.time_of(first)
        while packet is not None:
            time = film.time_of(packet)
            self._decoded = packet.dts if packet.dts is not None else packet.pts
            if is_broken and packet.is_keyframe:
                is_broken, whole_from = False, time
            # The last packet, which has no time, lets the decoder give what it still holds.
            is_early = time is not None and whole_from is not None and time < whole_from
            is_whole = time is None or not (is_broken or is_early)
            if not is_whole and time is not None:  # it refers to what is not there
                yield time, None
            frames: list[VideoFrame] = []
            try:
                if is_whole:
                    frames = packet.decode()
            except (av.FFmpegError, ValueError):
                is_broken = True
                if time is not None:
                    yield time, None
            film.check()
            for frame in frames:
                if (shown := film.time_of(frame)) is not None:
                    yield shown, None if frame.is_corrupt else frame
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packet = None
            film.check()


def _nothing() -> _Shown:
    yield from ()


def _place(film: Film, time: int) -> int:
    """Return the last place, in the film's own unit, that rounds to a time in milliseconds."""
    base = film.stream.time_base
    assert base is not None
    return int((time + 0.5) / 1000 / base)


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """Return a, b, c, d of the display matrix of a frame, by sign: x' = ax + cy, y' = bx + dy."""
    side_data: Mapping[str, Any] = frame.side_data
    data = side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = np.sign(np.frombuffer(bytes(data), np.int32)).tolist()
    return a, b, c, d


def upright(
    pixels: npt.NDArray[np.uint8], matrix: tuple[int, int, int, int] | None
) -> npt.NDArray[np.uint8]:
    """Turn and mirror a picture (H, W, 3) as the display matrix says, by quarters of a turn.

    Examples
    --------
    >>> picture = np.uint8([[[1], [2]], [[3], [4]]])
    >>> upright(picture, (0, 1, -1, 0))[..., 0].tolist()
    [[3, 1], [4, 2]]
    """
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if a and d and not b and not c:
        return np.ascontiguousarray(pixels[::d, ::a])
    if b and c and not a and not d:
        return np.ascontiguousarray(pixels.swapaxes(0, 1)[::b, ::c])
    return pixels
