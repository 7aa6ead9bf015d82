"""PNG and WebP files without metadata: what is not needed for the pixels is not read."""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from padim_dist.archive.reading.formats.problems import DAMAGE

_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WEBP_PIXELS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
_WEBP_METADATA = 0x20 | 0x08 | 0x04
"""Flags of a WebP file with a colour profile, EXIF and XMP."""
_RAW_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MOST_EXIF = 2**20


class _Piece(NamedTuple):
    """A chunk: its name, where its content is, and where all of it is."""

    name: bytes
    content: slice
    whole: slice


def png_pixels(data: bytes) -> bytes:
    """Return the file with nothing but the chunks of its pixels."""
    return data[:8] + b"".join(data[one.whole] for one in _chunks(data) if one.name in _PNG_PIXELS)


def png_bits(data: bytes) -> int:
    """Return the bits of a sample: those that are significant if the file says so (``sBIT``)."""
    for chunk in _chunks(data):
        if chunk.name == b"sBIT":
            return max(data[chunk.content])
        if chunk.name == b"IDAT":
            break
    return data[24]


def png_exif(data: bytes) -> bytes | None:
    """Return the EXIF data of a PNG file, also those of the older way, as hexadecimal text."""
    for chunk in _chunks(data):
        content = data[chunk.content] if chunk.name in (b"eXIf", b"zTXt", b"tEXt") else b""
        if chunk.name == b"eXIf":
            return content
        if content.startswith(_RAW_EXIF):
            try:
                return _raw_exif(content, chunk.name == b"zTXt")
            except DAMAGE:
                return None
    return None


def webp_exif(data: bytes) -> bytes | None:
    """Return the EXIF data of a WebP file."""
    return next((data[one.content] for one in _riff(data) if one.name == b"EXIF"), None)


def webp_pixels(data: bytes) -> bytes:
    """Return the file with nothing but the chunks of its pixels."""
    kept = []
    for piece in _riff(data):
        whole = data[piece.whole]
        if piece.name == b"VP8X" and len(whole) > 8:
            whole = whole[:8] + bytes([whole[8] & ~_WEBP_METADATA]) + whole[9:]
        if piece.name in _WEBP_PIXELS:
            kept.append(whole)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(data: bytes) -> Iterator[_Piece]:
    place = 8
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        start, place = place, place + 12 + size
        yield _Piece(name, slice(start + 8, place - 4), slice(start, place))


def _riff(data: bytes) -> Iterator[_Piece]:
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        start, place = place, place + 8 + size + size % 2
        yield _Piece(name, slice(start + 8, start + 8 + size), slice(start, place))


def _raw_exif(content: bytes, is_compressed: bool) -> bytes:
    """Return the bytes of a text chunk with a name, a length and hexadecimal digits."""
    text = content.split(b"\0", 1)[1]
    if is_compressed:
        text = zlib.decompressobj().decompress(text[1:], _MOST_EXIF)
    return binascii.unhexlify(b"".join(text.split(b"\n")[3:]))
