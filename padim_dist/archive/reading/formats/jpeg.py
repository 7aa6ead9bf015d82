"""JPEG: torchvision decodes, twice as fast as Pillow, which reads the header and helps out."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from padim_dist.archive.reading.formats.jpeg_head import JpegHead
from padim_dist.archive.reading.formats.problems import (
    DAMAGE,
    check_size,
    damaged,
    unsupported,
)
from padim_dist.archive.reading.formats.upright import orientation_of, turned
from padim_dist.vision import ImageReadMode, decode_jpeg

MOST_SCANS = 100
"""Most scans of a file. Encoders write about ten; each one is a pass over the whole picture."""
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP14, _COM = 0xE0, 0xE1, 0xEE, 0xFE
_EXIF = b"Exif\0"
_END = b"\xff\xd9"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_READ_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
"""Baseline, extended, progressive, and the last two of these with arithmetic coding."""
# A marker, but no stuffed zero, no fill byte and no restart: these are part of a scan.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_RESTARTS = b"".join(b"\xff" + bytes([0xD0 + i % 8]) + b"\x55\x2a" * 8 for i in range(16))
_TAILS = (b"\x55" * 64, b"\xaa" * 64, _RESTARTS)
"""What might follow a scan; it changes the picture unless the scan is complete."""
_CUT = 64
"""Bytes without which a picture differs, if its scan ends at the end of the file."""


@dataclass(frozen=True)
class _Segment:
    """A marker with its data; coded data of a scan (``0xDA``) follow up to the next segment."""

    marker: int
    start: int
    stop: int


def open_jpeg(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header, and refuse what is too large or takes too long.

    Raises
    ------
    ImageError
        With the status ``unreadable`` or ``too_large``, and the reason.
    """
    _check_scans(data)
    try:
        image = _open(data)
    except DAMAGE:
        _check_frame(data)
        image = _open(without_metadata(data))
    check_size(*image.size, max_pixels)
    return image


def read_jpeg(data: bytes, max_pixels: int, head: JpegHead | None) -> Tensor:
    """Decode a file, given its `find_head`, to RGB: uint8, shape (3, H, W), upright."""
    image = None
    if head is None:
        image = open_jpeg(data, max_pixels)
    else:
        check_size(head.width, head.height, max_pixels)
    with suppress(RuntimeError):
        return _decode(data)
    if image is None:
        image = open_jpeg(data, max_pixels)
    if not _has_end(data):
        return _without_end(data)
    # Pillow reads some files that torchvision does not
    image.seek(0)
    rgb = np.array(image.convert("RGB"))
    rgb = np.ascontiguousarray(turned(rgb, orientation_of(image.info.get("exif"))))
    return torch.from_numpy(rgb).permute(2, 0, 1)


def read_part(data: bytes) -> Tensor:
    """Decode a strip or tile of another format as it is: 1, 3 (RGB) or 4 channels."""
    _check_scans(data)
    return _decode(data, mode=ImageReadMode.UNCHANGED)


def size_of(data: bytes) -> tuple[int, int]:
    """Return height and width by the frame header, (0, 0) if there is none."""
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            head = data[segment.start + 5 : segment.start + 9]
            return int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
    return 0, 0


def components_of(data: bytes) -> int:
    """Return the number of colour components by the frame header."""
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            return data[segment.start + 9]
    raise ValueError("it has no frame header")


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Return whether a GPU may decode an opened file: baseline colour JPEG, upright, complete."""
    return (
        image.format == "JPEG"
        and image.mode == "RGB"
        and "progressive" not in image.info
        and image.info.get("adobe_transform", 1) != 0
        and data.endswith(_END)
        and orientation_of(image.info.get("exif")) == 1
    )


def exif_of(data: bytes) -> bytes | None:
    """Return the EXIF data of a file."""
    for segment in _segments(data):
        if segment.marker == _SOS:
            break
        content = data[segment.start + 4 : segment.stop]
        if segment.marker == _APP1 and content.startswith(_EXIF):
            return content
    return None


def without_metadata(data: bytes) -> bytes:
    """Return the file without comments and application data, which may be damaged."""
    starts = [*_segments(data)]
    stops = [segment.start for segment in starts[1:]] + [len(data)]
    kept = [b"\xff\xd8"]
    for segment, stop in zip(starts, stops, strict=True):
        is_metadata = _APP0 <= segment.marker < 0xF0 and segment.marker != _APP14
        if not (is_metadata or segment.marker == _COM):
            kept.append(data[segment.start : stop])
    return b"".join(kept)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("JPEG",))
    except UnidentifiedImageError:
        raise ValueError("its header cannot be read") from None


def _decode(data: bytes, mode: ImageReadMode = ImageReadMode.RGB) -> Tensor:
    buffer = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    upright = mode == ImageReadMode.RGB
    picture: Tensor = decode_jpeg(buffer, mode=mode, apply_exif_orientation=upright)
    return picture


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments up to the end of the image, as libjpeg finds them."""
    stop = 2
    while (found := _MARKER.search(data, stop)) and found[1][0] != _EOI:
        start = found.start()
        stop = start + 2 + max(int.from_bytes(data[start + 2 : start + 4], "big"), 2)
        yield _Segment(found[1][0], start, min(stop, len(data)))


def _has_end(data: bytes) -> bool:
    *_, last = [_Segment(_SOI, 0, 2), *_segments(data)]
    return _MARKER.search(data, last.stop) is not None


def _check_scans(data: bytes) -> None:
    """Refuse a file with very many scans. Most have one; their coded data are not looked at."""
    components = 0
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            components = data[segment.start + 9] if segment.stop > segment.start + 9 else 0
            is_progressive = segment.marker not in (0xC0, 0xC1, 0xC9)
        elif segment.marker == _SOS:
            if components and data[segment.start + 4] == components and not is_progressive:
                return
            break
    # Counting is fast, but also counts what only looks like a scan.
    if data.count(b"\xff\xda") > MOST_SCANS:
        scans = sum(segment.marker == _SOS for segment in _segments(data))
        if scans > MOST_SCANS:
            raise unsupported(f"JPEG with {scans:,} scans; more than {MOST_SCANS} may take minutes")


def _check_frame(data: bytes) -> None:
    """Refuse kinds of JPEG that no decoder here reads."""
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            bits = data[segment.start + 4 : segment.start + 5]
            if bits and bits[0] != 8:
                raise unsupported(f"JPEG with {bits[0]} bits a sample; store 8, or PNG or TIFF")
            if segment.marker not in _READ_FRAMES:
                raise unsupported("JPEG in a lossless or hierarchical form; store PNG or TIFF")
            return


def _without_end(data: bytes) -> Tensor:
    """Decode a file that lacks the end marker, if its picture is complete.

    libjpeg fills a scan that is cut off with grey and says nothing. A complete scan is one that
    does not depend on what follows it, but on its last bytes.
    """
    body = data.rstrip(b"\xff")
    if _has_all_scans(body):
        whole = _decode(body + _END)
        others = [_decode(body + tail + _END) for tail in _TAILS]
        cut = _decode(body[:-_CUT] + _END)
        if all(torch.equal(whole, other) for other in others) and not torch.equal(whole, cut):
            return whole
    raise damaged("JPEG", "the file ends inside the picture")


def _has_all_scans(data: bytes) -> bool:
    """Return whether the scans hold all bits of all coefficients of all components."""
    missing: dict[int, list[int]] = {}
    is_progressive = False
    for segment in _segments(data):
        values = data[segment.start + 4 : segment.stop]
        if segment.marker in _FRAMES and len(values) > 5:
            is_progressive = segment.marker in (0xC2, 0xCA)
            missing = {one: [13] * 64 for one in values[6 : 6 + 3 * values[5] : 3]}
        elif segment.marker == _SOS and len(values) > 1 + 2 * values[0] + 2:
            first, last, bits = values[1 + 2 * values[0] : 4 + 2 * values[0]]
            if not is_progressive:
                first, last, bits = 0, 63, 0
            for one in values[1 : 1 + 2 * values[0] : 2]:
                if one in missing and last < 64:
                    missing[one][first : last + 1] = [bits & 15] * (last + 1 - first)
    return bool(missing) and not any(any(left) for left in missing.values())
