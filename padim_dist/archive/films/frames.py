"""The frames of a film in the order of time, from its packets; no picture is decoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from padim_dist.archive.films.every import ShownFrame
from padim_dist.archive.films.opening import Film, films

_REORDERED = 32
"""Packets in which frames that are shown earlier may follow; codecs allow 16."""
_SEGMENT = b"\x18\x53\x80\x67"


class Frames:
    """Iterator over the frames of a film.

    Attributes
    ----------
    bytes : int
        Bytes of the pictures of the frames so far.
    is_cut : bool
        After the iteration: whether its tail is lacking or damaged.
    shortest : int or None
        Shortest time between two frames so far, in milliseconds.
    """

    def __init__(self, film: Film) -> None:
        self.bytes = 0
        self.is_cut = False
        self.shortest: int | None = None
        self._film = film

    def __iter__(self) -> Iterator[ShownFrame]:
        last: int | None = None
        for number, (time, length) in enumerate(self._in_order()):
            if time != last:  # of frames in one millisecond the first
                yield ShownFrame(number, time, self.bytes, length)
                if last is not None:
                    self.shortest = min(time - last, self.shortest or time - last)
                last = time
            self.bytes += length

    def _in_order(self) -> Iterator[tuple[int, int]]:
        """Yield time and bytes of every frame, in the order of time, with few in memory."""
        waiting: list[tuple[int, int, int]] = []
        for place, (time, length) in enumerate(self._packets()):
            heapq.heappush(waiting, (time, place, length))
            if len(waiting) > _REORDERED:
                time, _, length = heapq.heappop(waiting)
                yield time, length
        while waiting:
            time, _, length = heapq.heappop(waiting)
            yield time, length

    def _packets(self) -> Iterator[tuple[int, int]]:
        film = self._film
        av, count = films(), 0
        try:
            for packet in film.container.demux(film.stream):
                film.check()
                if packet.is_corrupt:  # the file ends inside it
                    self.is_cut = True
                    continue
                time = film.time_of(packet)
                count += packet.size > 0
                # An edit list may leave packets out that others refer to.
                if packet.size and time is not None and not packet.is_discard:
                    yield time, packet.size
        except av.FFmpegError:
            self.is_cut = True
        film.check()
        self.is_cut |= count < film.stream.frames or is_cut_matroska(film.head, film.size)


def is_cut_matroska(head: bytes, size: int) -> bool:
    """Return whether a Matroska file is shorter than its segment says.

    Parameters
    ----------
    head : bytes
        The first bytes of the file, of any format.
    size : int
        Bytes of the file.
    """
    place = head.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or place >= len(head) or not head[place]:
        return False
    width = 9 - head[place].bit_length()
    number = int.from_bytes(head[place : place + width], "big") & ((1 << 7 * width) - 1)
    is_known = number != (1 << 7 * width) - 1  # of a recording that was not ended
    return is_known and place + width + number > size
