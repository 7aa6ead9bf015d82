"""Damaged and unusual image files, as large archives have them, drawn with a seed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

LEFT_OUT = "left out"
"""Status of a specimen that an index leaves out."""
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}


@dataclass(frozen=True)
class Specimen:
    """A file, its kind, and its expected status; None if that depends on the damage."""

    path: Path
    kind: str
    status: str | None


def draw_corpus(folder: Path, count: int = 500, seed: int = 0) -> list[Specimen]:
    """Draw files of all kinds in turn."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    specimens = []
    kinds = list(_KINDS.items())
    for number in range(count):
        kind, (make, status) = kinds[number % len(kinds)]
        name, data = make(rng)
        path = folder / f"{number:03d}{name}"
        if data is not None:
            path.write_bytes(data)
        elif kind == "link in a circle":
            path.symlink_to(path.name)
        else:
            path.symlink_to("nowhere.jpg")
        specimens.append(Specimen(path, kind, status))
    return specimens


def picture(rng: random.Random, mode: str = "RGB", size: tuple[int, int] = (60, 50)) -> Image.Image:
    """Return a textured picture of a width and height."""
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = noise.integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, FORMATS[kind], **options)
    return sink.getvalue()


def _any(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(list(FORMATS))
    return kind, encode(picture(rng), kind)


def _good(rng: random.Random) -> tuple[str, bytes]:
    kind, data = _any(rng)
    return f".{kind}", data


def _cut(rng: random.Random) -> tuple[str, bytes]:
    kind, data = _any(rng)
    return f".{kind}", data[: rng.randrange(1, len(data))]


def _flip(first: float, last: float) -> Callable[[random.Random], tuple[str, bytes]]:
    """Return a maker of files with bits flipped between two relative positions."""

    def flip(rng: random.Random) -> tuple[str, bytes]:
        kind, data = _any(rng)
        spoiled = bytearray(data)
        for _ in range(rng.randrange(1, 9)):
            place = rng.randrange(int(first * len(data)), max(1, int(last * len(data))))
            spoiled[place] ^= 1 << rng.randrange(8)
        return f".{kind}", bytes(spoiled)

    return flip


def _wrong_suffix(rng: random.Random) -> tuple[str, bytes]:
    kind, data = _any(rng)
    return "." + rng.choice([other for other in FORMATS if other != kind]), data


def _bomb(_: random.Random) -> tuple[str, bytes]:
    return ".png", _many_pixels()


@cache
def _many_pixels() -> bytes:
    """Return a valid image of 900 million pixels in 110 kB."""
    return encode(Image.new("1", (30_000, 30_000)), "png")


def _lying_header(rng: random.Random) -> tuple[str, bytes]:
    """Return an image whose header says 30,000 x 30,000 pixels."""
    data = bytearray(encode(picture(rng), "png"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return ".png", bytes(data)


def _wide(rng: random.Random) -> tuple[str, bytes]:
    noise = np.random.default_rng(rng.getrandbits(32))
    pixels = noise.integers(0, 2**16, (50, 60)).astype(np.uint16)
    kind = rng.choice(["png", "tif"])
    return f".{kind}", encode(Image.fromarray(pixels), kind)


def _animated(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(["png", "webp", "tif"])
    others = [picture(rng), picture(rng)]
    return f".{kind}", encode(picture(rng), kind, save_all=True, append_images=others)


def _sized(*sizes: tuple[int, int]) -> Callable[[random.Random], tuple[str, bytes]]:
    def make(rng: random.Random) -> tuple[str, bytes]:
        return ".png", encode(picture(rng, size=rng.choice(sizes)), "png")

    return make


def _named(rng: random.Random) -> tuple[str, bytes]:
    names = [
        " a b",
        "'\"",
        "line\nbreak",
        "😀",
        "..",
        "-rf",
        "%2F%00",
        "#x",
        "?y=1",
        "&;|$(x)",
        "*[a]",
    ]
    return f"{rng.choice([*names, 'long' * 50])}.png", encode(picture(rng), "png")


def _text(rng: random.Random) -> tuple[str, bytes]:
    texts = [
        b"<!doctype html><title>404</title>",
        b"\xef\xbb\xbfnot an image",
        b"\0" * 999,
        b"GIF89a",
    ]
    return rng.choice([".jpg", ".png"]), rng.choice(texts) * 20


def _with_exif(rng: random.Random) -> tuple[str, bytes]:
    """Return an image with EXIF data, some of them huge or cut off."""
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(1, 9)
    exif[0x010E] = "x" * rng.choice([10, 60_000])
    data = exif.tobytes()
    cut = data[: rng.randrange(8, 40)] if rng.random() < 0.5 else data
    return ".jpg", encode(picture(rng), "jpg", exif=cut)


def with_odd_tag(data: bytes) -> bytes:
    """Return a TIFF file whose offset of the pixels is a float."""
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    places = [first + 2 + 12 * i for i in range(tags)]
    (place,) = [p for p in places if struct.unpack_from("<H", data, p) == (273,)]
    spoiled = bytearray(data)
    struct.pack_into("<H", spoiled, place + 2, 11)
    return bytes(spoiled)


def _odd_tag(rng: random.Random) -> tuple[str, bytes]:
    return ".tif", with_odd_tag(encode(picture(rng), "tif"))


def _with_text_bomb(rng: random.Random) -> tuple[str, bytes]:
    """Return a file with 200 MB of text in 200 kB."""
    chunks = PngImagePlugin.PngInfo()
    kind, head = rng.choice([(b"zTXt", b"note\0\0"), (b"iTXt", b"note\0\1\0\0\0")])
    chunks.add(kind, head + _much_text())
    return ".png", encode(picture(rng), "png", pnginfo=chunks)


@cache
def _much_text() -> bytes:
    return zlib.compress(bytes(200 * 2**20), 1)


def _with_profile(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(["jpg", "png", "webp", "tif"])
    return f".{kind}", encode(picture(rng), kind, icc_profile=rng.randbytes(300))


def _palette(rng: random.Random) -> tuple[str, bytes]:
    mode = rng.choice(["P", "L", "1", "RGBA", "LA"])
    options = {"transparency": 3} if mode == "P" else {}
    return ".png", encode(picture(rng, mode), "png", **options)


_KINDS: dict[str, tuple[Callable[[random.Random], tuple[str, bytes | None]], str | None]] = {
    "good": (_good, "scored"),
    "cut short": (_cut, None),
    "bits of the header flipped": (_flip(0, 0.05), None),
    "bits of the body flipped": (_flip(0.3, 1), None),
    "empty": (lambda _: (".jpg", b""), "unreadable"),
    "wrong suffix": (_wrong_suffix, "scored"),
    "text": (_text, "unreadable"),
    "bomb": (_bomb, "too_large"),
    "lying header": (_lying_header, "too_large"),
    "CMYK": (lambda rng: (".jpg", encode(picture(rng, "CMYK"), "jpg")), "scored"),
    "16 bits": (_wide, "scored"),
    "animated": (_animated, "scored"),
    "one pixel": (_sized((1, 1)), "scored"),
    "long": (_sized((1, 20_000), (20_000, 1)), "scored"),
    "odd name": (_named, "scored"),
    "link in a circle": (lambda _: (".jpg", None), LEFT_OUT),
    "broken link": (lambda _: (".jpg", None), LEFT_OUT),
    "garbage behind it": (
        lambda rng: (".jpg", encode(picture(rng), "jpg") + rng.randbytes(500)),
        "scored",
    ),
    "progressive": (lambda rng: (".jpg", encode(picture(rng), "jpg", progressive=True)), "scored"),
    "odd EXIF": (_with_exif, None),
    "odd tag": (_odd_tag, "unreadable"),
    "bomb of text": (_with_text_bomb, "scored"),
    "odd colour profile": (_with_profile, "scored"),
    "palette or alpha": (_palette, "scored"),
}
