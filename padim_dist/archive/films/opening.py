"""Opening films with PyAV, which carries FFmpeg (extra ``video``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from padim_dist.archive.times import in_utc
from padim_dist.errors import ConfigError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_READER = 1
"""Number of this reader: it changes when it finds other frames in a film, or other times."""
_BUFFER = 2**17
_MATROSKA, _RIFF = b"\x1a\x45\xdf\xa3", b"RIFF"
_SEGMENT = b"\x18\x53\x80\x67"
_LAST = 16
"""Number of the last frames by time; the last frame of the file is one of them."""


class FilmError(Exception):
    """A film cannot be opened, or has no pictures; the message says why.

    Attributes
    ----------
    is_empty : bool
        Whether it is a sound film without pictures.
    """

    def __init__(self, reason: str, *, is_empty: bool = False) -> None:
        super().__init__(reason)
        self.is_empty = is_empty


class Source(Protocol):
    """A seekable file of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, and return the new place."""

    def tell(self) -> int:
        """Return the place."""


class _Watched:
    """A file for FFmpeg; it keeps the error of a read, which FFmpeg takes for the end."""

    def __init__(self, file: Source) -> None:
        self.error: Exception | None = None
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if self.error is not None:
            return b""
        try:
            return self._file.read(size)
        except Exception as error:  # of any store
            self.error = error
            return b""


@dataclass(frozen=True)
class Film:
    """An open film.

    Attributes
    ----------
    container, stream : InputContainer, VideoStream
        As PyAV has them; the first stream of moving pictures.
    size : int
        Bytes of the file.
    head : bytes
        Its first bytes.
    """

    container: InputContainer
    stream: VideoStream
    size: int
    head: bytes = field(repr=False)
    _file: _Watched = field(repr=False)

    def check(self) -> None:
        """Raise the error of a read that FFmpeg took for the end of the film."""
        if self._file.error is not None:
            raise self._file.error

    def time_of(self, shown: Packet[VideoStream] | VideoFrame) -> int | None:
        """Return when a packet or a frame is shown, in milliseconds; None if it does not say so."""
        place = shown.pts if shown.pts is not None else shown.dts
        base = self.stream.time_base
        return None if place is None or base is None else round(place * base * 1000)

    @property
    def ends_early(self) -> bool:
        """Whether the file is shorter than it says: MP4 by its index, the others by their head."""
        if self.head.startswith(_MATROSKA):
            return is_cut_matroska(self.head, self.size)
        if self.head.startswith(_RIFF):
            length = int.from_bytes(self.head[4:8], "little")
            return length != 2**32 - 1 and 8 + length > self.size  # -1: it was not ended
        entries = self.stream.index_entries
        last = [entries[place] for place in range(max(0, len(entries) - _LAST), len(entries))]
        return any(entry.pos + entry.size > self.size for entry in last)

    @property
    def began_at(self) -> datetime | None:
        """When it was begun to be taken, by its metadata; UTC."""
        text = self.container.metadata.get("creation_time", "")
        try:
            return in_utc(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            return None


def films() -> Any:
    """Return PyAV.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        av = import_module("av")
    except ImportError as error:
        raise ConfigError(
            f"archive.layout video needs PyAV, which cannot be imported ({error}). Install it "
            "here and on the workers with: pip install 'padim-dist[video]'"
        ) from None
    av.logging.set_level(None)  # damage becomes rows, not lines on the terminal
    return av


def film_reader() -> str:
    """Return what reads films: rows of frames by another one may be others.

    Raises
    ------
    ConfigError
        If PyAV is not installed.
    """
    av = films()
    parts = ".".join(map(str, av.library_versions["libavformat"]))
    return f"{_READER}, PyAV {av.__version__}, libavformat {parts}"


def open_film(file: Source) -> Film:
    """Open a film; only MP4 and QuickTime, Matroska and AVI, whatever its name says.

    FFmpeg is told the format: if it guessed, a file could be a playlist that names others.

    Raises
    ------
    FilmError
        If it is damaged or has no pictures.
    ConfigError
        If PyAV is not installed.
    Exception
        Of the store, if it cannot be read.
    """
    av, watched = films(), _Watched(file)
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    kind = "avi" if head.startswith(_RIFF) else "mov"
    kind = "matroska" if head.startswith(_MATROSKA) else kind
    try:
        container = av.open(watched, "r", format=kind, buffer_size=_BUFFER)
    except (av.FFmpegError, ValueError) as error:
        if watched.error is not None:
            raise watched.error from None
        raise FilmError(f"it is cut, damaged or no film: {reason_of(error)}") from None
    if watched.error is not None:  # FFmpeg took it for the end, and was content with what it had
        container.close()
        raise watched.error
    streams = [stream for stream in container.streams.video if not _is_cover(av, stream)]
    if not streams or streams[0].codec_context is None:
        container.close()
        raise FilmError("it has no stream of pictures that can be decoded", is_empty=True)
    for stream in container.streams:
        if stream is not streams[0]:
            stream.discard = "all"
    return Film(container, streams[0], size, head, watched)


def reason_of(error: Exception) -> str:
    """Return an error of FFmpeg in words, without the name of the file."""
    return str(getattr(error, "strerror", None) or error)


def _is_cover(av: Any, stream: VideoStream) -> bool:
    """Return whether a stream is one still picture, such as the cover of a recording."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


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
