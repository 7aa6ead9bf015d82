"""Frames of films: one pass of a decoder, from a key frame, gives many rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
from padim_dist.core.status import TOO_LARGE, UNREADABLE
from padim_dist.errors import ImageError, RunError

if TYPE_CHECKING:
    from datetime import datetime

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BEYOND = 32
"""Frames after the last one asked for, until those that did not come are given up."""
_NO_PICTURE = "the decoder gives no picture at this time: the film is cut or damaged here"


@dataclass(frozen=True)
class Frame:
    """A decoded frame: pixels, uint8 (3, H, W), and when it was taken, if the film says so."""

    pixels: Tensor
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
        self._shown: Iterator[tuple[int, VideoFrame | None]] = iter(())
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
        try:
            film = self._open(next(iter(rows)))
            for _ in range(2):  # frames that an odd order has passed by come in a second pass
                for time, frame in self._passing(film, wanted):
                    yield wanted.pop(time), frame
                if not wanted:
                    return
                self._at = None
            error = ImageError(UNREADABLE, _NO_PICTURE)
        except ImageError as found:
            error, self._object = found, None
        except RunError:
            self._object = None
            raise
        except FilmError as found:
            error, self._object = ImageError(UNREADABLE, str(found)), None
        for row in wanted.values():
            yield row, error

    def _open(self, row: ImageRow) -> Film:
        if self._film is None or self._object != (row.uri, row.etag):
            self.file = RangeFile(self._fetcher, row)
            with timed_part():
                self._film = open_film(self.file)
                # Workers share the cores; with several threads here errors would come late.
                self._film.stream.codec_context.thread_count = 1
            self._object, self._at = (row.uri, row.etag), None
        return self._film

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
        if frame.width * frame.height > self._max_pixels:
            return ImageError(
                TOO_LARGE,
                f"{frame.width}x{frame.height} pixels are more than archive.max_pixels = "
                f"{self._max_pixels}",
            )
        decoded: npt.NDArray[Any] = frame.to_ndarray(format="rgb24")
        pixels = upright(decoded, display_matrix(frame))
        began = film.began_at
        captured_at = began and began + timedelta(milliseconds=time)
        return Frame(torch.from_numpy(pixels).permute(2, 0, 1), captured_at)

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
    ) -> Iterator[tuple[int, VideoFrame | None]]:
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
