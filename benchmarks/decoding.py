"""Speed of decoding, in turns with Pillow: `python -m benchmarks.decoding [ROUNDS]`."""

from __future__ import annotations

import io
import sys
from functools import partial
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import interleave, seconds
from padim_dist.archive.reading.decode import decode

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


if __name__ == "__main__":
    main()
