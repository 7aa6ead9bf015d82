"""The kind of a file, from its first bytes. These bytes never get into a message."""

from __future__ import annotations

import re
from typing import Literal

from padim_dist.archive.reading.formats.problems import unsupported
from padim_dist.errors import ImageError

Kind = Literal["JPEG", "PNG", "TIFF", "WebP", "BMP"]
_KINDS: dict[Kind, re.Pattern[bytes]] = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
}
_OTHER_IMAGES = {
    "GIF": re.compile(rb"GIF8"),
    "AVIF": re.compile(rb"....ftypavi[fs]", re.DOTALL),
    "HEIF": re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51"),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n"),
    "Photoshop": re.compile(rb"8BPS"),
    "OpenEXR": re.compile(rb"\x76\x2f\x31\x01"),
    "DICOM": re.compile(rb".{128}DICM", re.DOTALL),
    "FITS": re.compile(rb"SIMPLE  ="),
    "netpbm": re.compile(rb"P[1-7]\s"),
    "SVG": re.compile(rb"\s*(<\?xml[^>]*>\s*)?<svg\b"),
}
_OTHERS = {
    "a web page (HTML)": re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.I),
    "an XML file": re.compile(rb"(\xef\xbb\xbf)?\s*<\?xml\b|\s*<[A-Za-z]+>"),
    "a PDF file": re.compile(rb"%PDF-"),
    "a zip archive": re.compile(rb"PK(\x03\x04|\x05\x06)"),
    "a gzip file": re.compile(rb"\x1f\x8b"),
    "a RIFF file that is not WebP": re.compile(rb"RIFF"),
    "an MP4 video": re.compile(rb"....ftyp", re.DOTALL),
    "a file of zero bytes alone": re.compile(rb"\0+\Z"),
    "text": re.compile(rb"(\xef\xbb\xbf)?[\t\n\r\x20-\x7e]+\Z"),
}
_SEEN = 512
"""Number of bytes that are looked at."""


def kind_of(data: bytes) -> Kind:
    """Return the kind of an image file.

    Raises
    ------
    ImageError
        With the status ``unreadable``, if it is none of the five that are read.

    Examples
    --------
    >>> kind_of(b"BM...")
    'BMP'
    >>> kind_of(b"%PDF-1.7")
    Traceback (most recent call last):
    padim_dist.errors.ImageError: unreadable: not an image: it is a PDF file
    """
    if not data:
        raise ImageError("unreadable", "the file is empty")
    start = data[:_SEEN]
    for kind, pattern in _KINDS.items():
        if pattern.match(start):
            return kind
    for name, pattern in _OTHER_IMAGES.items():
        if pattern.match(start):
            raise unsupported(f"{name}; JPEG, PNG, TIFF, WebP and BMP are read")
    for name, pattern in _OTHERS.items():
        if pattern.match(start):
            raise ImageError("unreadable", f"not an image: it is {name}")
    raise ImageError("unreadable", "not an image: it has the first bytes of no known image format")
