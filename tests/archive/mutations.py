"""Mutated image files: each one gives pixels or an `ImageError`, soon, and ends no process.

`python -m tests.archive.mutations [COUNT]` decodes COUNT files (10,000) in processes of their own
and prints the outcomes, the slowest files and what the C libraries print.
"""

from __future__ import annotations

import io
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from functools import cache, partial

import numpy as np
import tifffile
from PIL import Image

from tests.archive.corpus import encode

Seeds = list[tuple[str, bytes]]


@cache
def seeds() -> Seeds:
    """Return sound files of many forms, in turn of the five formats."""
    noise = np.random.default_rng(5)
    small = noise.integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(small).resize((120, 90), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    wide = pixels.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a camera"
    jpeg = [
        encode(picture, "jpg", exif=exif),
        encode(picture, "jpg", progressive=True, icc_profile=bytes(300)),
        encode(picture.convert("L"), "jpg", restart_marker_blocks=4),
        encode(picture.convert("CMYK"), "jpg"),
    ]
    png = [
        encode(picture, "png", exif=exif),
        encode(picture.quantize(16), "png", bits=4),
        encode(Image.fromarray(wide[..., 0]), "png"),
        encode(picture.convert("RGBA"), "png"),
        encode(picture.convert("1"), "png"),
    ]
    webp = [
        encode(picture, "webp", exif=exif),
        encode(picture.convert("RGBA"), "webp", lossless=True),
        encode(picture, "webp", save_all=True, append_images=[picture.rotate(9)]),
    ]
    bmp = [encode(picture.convert(mode), "bmp") for mode in ("RGB", "L", "1", "P", "RGBA")]
    tiff = [
        *(_tiff(pixels, compression=c) for c in (None, "lzw", "zlib", "jpeg", "zstd", "lzma")),
        *(_tiff(pixels, compression=c, tile=(32, 48)) for c in ("lzw", "jpeg", "packbits")),
        *(_tiff(wide, compression=c, predictor=True) for c in ("lzw", "zlib")),
        _tiff(wide.transpose(2, 0, 1), planarconfig="separate", compression="lzw"),
        _tiff(wide[..., 0] >> 4, photometric="minisblack", bitspersample=12),
        _tiff(pixels[..., 0], photometric="palette", colormap=noise.integers(0, 2**16, (3, 256))),
        _tiff(pixels, bigtiff=True, byteorder=">"),
        *(encode(picture.convert("1"), "tif", compression=f"group{n}") for n in (3, 4)),
        encode(picture.convert("1"), "tif", compression="tiff_ccitt"),
        encode(picture.convert("RGBA"), "tif", compression="tiff_lzw"),
        encode(picture.convert("CMYK"), "tif", compression="tiff_adobe_deflate"),
    ]
    kinds = {"JPEG": jpeg, "PNG": png, "TIFF": tiff, "WebP": webp, "BMP": bmp}
    longest = max(map(len, kinds.values()))
    return [(k, files[i % len(files)]) for i in range(longest) for k, files in kinds.items()]


def mutate(number: int) -> tuple[str, bytes]:
    """Return the kind and the bytes of a mutated file; the same for the same number."""
    rng = random.Random(number)
    kind, whole = seeds()[number % len(seeds())]
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice((_flip, _flip, _set, _cut, _splice, _length, _repeat))(data, rng)
        if not data:
            break
    # Most damage is to be behind the first bytes, or it is not even an image.
    mutated = bytes(whole[:4] + data[4:] if rng.random() < 0.8 else data)
    return kind, _with_checksums(mutated) if kind == "PNG" and rng.random() < 0.7 else mutated


def _tiff(array: np.ndarray, **options: object) -> bytes:
    sink = io.BytesIO()
    options.setdefault("photometric", "rgb")
    tifffile.imwrite(sink, array, metadata=None, **options)
    return sink.getvalue()


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 32))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 16))):
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _splice(data: bytearray, rng: random.Random) -> None:
    _, other = rng.choice(seeds())
    start, size = rng.randrange(len(other)), rng.randrange(1, 400)
    place = rng.randrange(len(data))
    data[place : place + rng.choice((0, size))] = other[start : start + size]


def _length(data: bytearray, rng: random.Random) -> None:
    """Write a number that a length, an offset or a count may have."""
    number = rng.choice((0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, len(data)))
    size = rng.choice("HI")
    packed = struct.pack(rng.choice("<>") + size, number & (0xFFFF if size == "H" else 2**32 - 1))
    place = _place(data, rng)
    data[place : place + len(packed)] = packed


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 60)] * rng.choice((1, 5, 50))


def _place(data: bytearray, rng: random.Random) -> int:
    """Return a place, half of them near the start or the end, where headers and tags are."""
    near = min(len(data), 300)
    place = rng.randrange(len(data))
    return rng.choice((place, place, rng.randrange(near), len(data) - 1 - rng.randrange(near)))


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG file with the right checksums, so that decoders look at its contents."""
    place, kept = 8, [data[:8]]
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + size]
        kept.append(data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + size
    return b"".join(kept)


def decode_range(start: int, stop: int) -> None:
    """Decode files in this process; print each number before it, and its outcome after it."""
    from padim_dist.archive.reading.decode import decode, decode_for, decode_mask
    from padim_dist.errors import ImageError

    for number in range(start, stop):
        kind, data = mutate(number)
        print(number, kind, end=" ", flush=True)
        began = time.perf_counter()
        outcome = "pixels"
        for read in (decode, decode_mask, partial(decode_for, least=(8, 8))):
            try:
                read(data, 10**6)
            except ImageError as error:
                if read is decode:
                    is_large = error.status == "too_large"
                    outcome = error.status if is_large else error.reason.split(":")[0]
        print(f"{time.perf_counter() - began:.4f} {outcome}", flush=True)
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def decode_all(count: int, deadline: float = 60.0) -> tuple[Counter[str], list[str], list[str]]:
    """Decode mutated files in processes; return outcomes, failures, and the slowest files."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    slowest: list[tuple[float, str]] = []
    start = 0
    while start < count:
        stop = min(start + 2000, count)
        command = [sys.executable, "-m", "tests.archive.mutations", str(start), str(stop)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        last = start
        for line in done.stdout.splitlines():
            words = line.split(maxsplit=3)
            if words[0] == "peak":
                outcomes["peak MiB"] = max(outcomes["peak MiB"], int(words[1]))
                continue
            last = int(words[0]) + 1
            if len(words) < 4:
                failures.append(f"{line}: rc {done.returncode}: {done.stderr[-2000:]}")
                continue
            outcomes[f"{words[1]} {words[3]}"] += 1
            slowest.append((float(words[2]), line))
            if float(words[2]) > deadline:
                failures.append(f"{line}: slow")
        words = {line.split(":")[0] for line in done.stderr.splitlines()}
        outcomes.update(f"printed by a library: {word}" for word in words)
        if done.returncode == 0:
            last = stop
        start = max(last, start + 1)
    return outcomes, failures, [line for _, line in sorted(slowest)[-5:]]


def main(arguments: list[str]) -> int:
    """Decode one range (two arguments), or all in processes of their own."""
    if len(arguments) == 2:
        decode_range(*map(int, arguments))
        return 0
    outcomes, failures, slowest = decode_all(int(arguments[0]) if arguments else 10_000)
    for outcome, number in sorted(outcomes.items()):
        print(f"{number:7,} {outcome}")
    print("slowest: number, format, seconds", *slowest, sep="\n  ")
    print("failures:", *failures or ["none"], sep="\n  ")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
