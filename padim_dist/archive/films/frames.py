"""The frames of a film in the order of time, from its packets; no picture is decoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from padim_dist.archive.films.every import ShownFrame
from padim_dist.archive.films.opening import Film, films

_REORDERED = 32
"""Packets in which frames that are shown earlier may follow; codecs allow 16."""


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
            if last is None or time > last:  # of frames in one millisecond the first
                yield ShownFrame(number, time, self.bytes, length)
                if last is not None:
                    self.shortest = min(time - last, self.shortest or time - last)
                last = time
            self.bytes += length

    def _in_order(self) -> Iterator[tuple[int, int]]:
        """Yield time and bytes of every frame, in the order of time, with few in memory."""
        waiting: list[tuple[int, int, int]] = []
        failure: Exception | None = None
        try:
            for place, (time, length) in enumerate(self._packets()):
                heapq.heappush(waiting, (time, place, length))
                if len(waiting) > _REORDERED:
                    time, _, length = heapq.heappop(waiting)
                    yield time, length
        except Exception as error:  # of any store; what was found before it counts
            failure = error
        while waiting:
            time, _, length = heapq.heappop(waiting)
            yield time, length
        if failure is not None:
            raise failure

    def _packets(self) -> Iterator[tuple[int, int]]:
        film = self._film
        av = films()
        try:
            for packet in film.container.demux(film.stream):
                film.check()
                if packet.is_corrupt:  # the file ends inside it
                    self.is_cut = True
                    continue
                time = film.time_of(packet)
                # An edit list may leave packets out that others refer to.
                if packet.size and time is not None and not packet.is_discard:
                    yield time, packet.size
        except av.FFmpegError:
            self.is_cut = True
        film.check()
        self.is_cut |= film.ends_early
