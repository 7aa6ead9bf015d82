"""Speed of decoding, in turns with Pillow: `python -m benchmarks.decoding [ROUNDS]`.

Then of JPEG files that are decoded and resized to 256x256: whole, and at a reduced size.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import interleave, seconds
from benchmarks.pictures import BOTTLES
from padim_dist.archive.reading.decode import decode, decode_for
from padim_dist.archive.reading.transform import prepare
from padim_dist.core.geometry import Grid, InputGeometry

HEIGHT, WIDTH = 1000, 1400
TIFF = (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")


def by_pillow(data: bytes) -> torch.Tensor:
    """Decode a file to RGB by Pillow alone."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))


def files() -> dict[str, bytes]:
    """Return a smooth picture with noise, in several formats."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth).astype(int) + rng.integers(-6, 7, (HEIGHT, WIDTH, 3))
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    wide = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)

    def encoded(image: Image.Image, kind: str, **options: str | None) -> bytes:
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        return sink.getvalue()

    return {
        **{kind: encoded(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")},
        **{f"TIFF {how or 'as it is'}": encoded(picture, "TIFF", compression=how) for how in TIFF},
        **{f"{kind} of 16 bits": encoded(wide, kind) for kind in ("PNG", "TIFF")},
    }


def photographs() -> dict[str, bytes]:
    """Return JPEG files: a picture of the bottle set as it is, or drawn, and enlarged ones."""
    paths = sorted((BOTTLES / "train" / "good").glob("*.jpg"))
    found = {"512x512, as it is": paths[0].read_bytes()} if paths else {}
    data = paths[0].read_bytes() if paths else files()["JPEG"]
    for width, height in ((1280, 1024), (2048, 1536), (4000, 3000)):
        sink = io.BytesIO()
        picture = Image.open(io.BytesIO(data)).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(sink, "JPEG", quality=88)
        found[f"{width}x{height}, 4:2:0"] = sink.getvalue()
    return found


def processor_seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of a work of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def prepared(data: bytes, geometry: InputGeometry, least: Grid | None) -> torch.Tensor:
    """Decode a file, at a reduced size of at least `least`, and resize it."""
    return prepare(decode_for(data, 10**8, least=least).pixels, geometry)


def main() -> None:
    """Print the medians of one thread, in milliseconds."""
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    print(f"{HEIGHT}x{WIDTH} pixels, medians of {rounds} in turns, one thread, ms: ours, Pillow")
    for name, data in files().items():
        works = {
            "ours": partial(seconds, partial(decode, data, HEIGHT * WIDTH)),
            "Pillow": partial(seconds, partial(by_pillow, data)),
        }
        found = {who: 1000 * median(runs) for who, runs in interleave(rounds, works).items()}
        print(f"{name:24} {found['ours']:8.2f} {found['Pillow']:8.2f}")
    geometry = InputGeometry((256, 256), (256, 256))
    print("JPEG to 256x256, processor ms: libjpeg, reduced")
    for name, data in photographs().items():
        ways: dict[str, Grid | None] = {"libjpeg": None, "reduced": geometry.resize}
        works = {
            way: partial(processor_seconds, partial(prepared, data, geometry, least))
            for way, least in ways.items()
        }
        found = {way: 1000 * median(runs) for way, runs in interleave(rounds, works).items()}
        print(f"{name:24} {found['libjpeg']:8.2f} {found['reduced']:8.2f}")


if __name__ == "__main__":
    main()
