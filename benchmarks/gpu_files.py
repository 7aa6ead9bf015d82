"""Measure whole commands on one card: JPEG files to a model and to score tables.

    python -m benchmarks.gpu_files [--workers 1 4 8 12 16] [--images 2000] [--seconds 420]
        [--precision bfloat16] [--batch 256] [--json gpu_files.json]

For each number of workers it starts a cluster whose workers share the card, and measures a fit
and a score with each decoder of JPEG, after a small fit and score that warm the workers up. The
rates are images a second of the whole call, from the plan to the tables, without the start of the
workers. Each worker has `--images` images of 512 pixels (4:2:0, quality 90). A few are drawn, and
the others are links to them, so the files are read from memory. The figures of a number of workers
are left out if they would end after `--seconds`; the file of `--json` is written after each one.

Then it compares nvImageCodec's decoder with smooth chroma with libjpeg, where that package
(nvidia-nvimgcodec) is installed.

On a machine without a GPU it measures processors: `--workers 1 --images 64` is a test of the
script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

import padim_dist as padim
from benchmarks.gpu import draw
from benchmarks.measure import machine
from padim_dist.config import Config, make_config
from padim_dist.core.choices import Jpeg, Precision
from padim_dist.core.trunk import PRECISIONS
from padim_dist.engine.cluster.local import open_local

SIDE, DISTINCT, WARM = 512, 256, 64
"""Pixels of a side; images that differ; images that warm a worker up."""


@dataclass(frozen=True)
class Line:
    """Figures of some workers: images a second, and memory in use on the card afterwards."""

    decoder: Jpeg
    workers: int
    images: int
    fit: float
    score: float
    card_gib: float


@dataclass(frozen=True)
class Chroma:
    """How nvImageCodec's pictures differ from libjpeg's: grey levels, and the share that does."""

    largest: int
    mean: float
    share: float


def draw_files(folder: Path, count: int) -> list[bytes]:
    """Write JPEG files, at most `DISTINCT` that differ and links to them; return those."""
    pictures = draw(min(count, DISTINCT), SIDE, torch.device("cpu"))
    files = [bytes(encode_jpeg(picture, quality=90).numpy()) for picture in pictures]
    for number in range(count):
        path = _place(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < len(files):
            path.write_bytes(files[number])
        else:
            os.link(_place(folder, number % len(files)), path)
    return files


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"


def measure(
    asked: argparse.Namespace, workers: int, decoders: Sequence[Jpeg], place: Path
) -> Iterator[Line]:
    """Yield the figures of a number of workers."""
    archive, few = place / "archive", place / "few"
    draw_files(archive, asked.images * workers)
    draw_files(few, min(WARM, asked.images) * workers)

    def config(root: Path, decoder: Jpeg, address: str | None) -> Config:
        cores = os.cpu_count() or 1
        cluster = {"kind": "address", "address": address} if address else {"workers": workers}
        return make_config(
            {
                "workspace": str(place / f"{decoder}-{root.name}"),
                "archive": {
                    "url": str(root),
                    "layout": "folder",
                    "train": ".",
                    "shard_images": max(16, min(256, asked.images // 4)),
                },
                "model": {
                    "weights": "random",
                    "crop": 224,
                    "precision": asked.precision,
                    "batch": asked.batch,
                    "jpeg": decoder,
                },
                "cluster": {**cluster, "readers": max(1, cores // workers)},
            }
        )

    with open_local(config(few, decoders[0], None).cluster, workers, None) as client:
        address = client.scheduler.address
        for decoder in decoders:
            _rates(config(few, decoder, address))
            fit, score = _rates(config(archive, decoder, address))
            images = asked.images * workers
            yield Line(decoder, workers, images, round(fit, 1), round(score, 1), _card_gib())


def _rates(config: Config) -> tuple[float, float]:
    """Return images a second of a fit and of a score."""
    padim.index(config)
    began = time.perf_counter()
    fitted = padim.fit(config).images
    between = time.perf_counter()
    scored = padim.score(config).images
    return fitted / (between - began), scored / (time.perf_counter() - between)


def _card_gib() -> float:
    """Return the memory in use on the card, of all processes; 0 without a card."""
    if not torch.cuda.is_available():
        return 0.0
    free, whole = torch.cuda.mem_get_info()
    return round((whole - free) / 2**30, 1)


def compare_chroma(files: Sequence[bytes]) -> Chroma | str:
    """Compare nvImageCodec's decoder with smooth chroma with libjpeg; or say why not."""
    if not torch.cuda.is_available():
        return "nvImageCodec was not compared: PyTorch sees no GPU"
    try:
        from nvidia import nvimgcodec
    except ImportError as error:
        return f"nvImageCodec was not compared: {error}; install nvidia-nvimgcodec-cu13[nvjpeg]"
    decoder = nvimgcodec.Decoder(options=":fancy_upsampling=1")
    largest, different, total, numbers = 0, 0, 0, 0
    for file, picture in zip(files, decoder.decode(list(files)), strict=True):
        if picture is None:
            return "nvImageCodec was not compared: it refuses a file"
        found = torch.as_tensor(picture, device="cuda").cpu().permute(2, 0, 1).int()
        data = torch.frombuffer(bytearray(file), dtype=torch.uint8)
        apart = (found - decode_jpeg(data, mode=ImageReadMode.RGB).int()).abs()
        largest = max(largest, int(apart.max()))
        different += int((apart > 0).sum())
        total += int(apart.sum())
        numbers += apart.numel()
    return Chroma(largest, total / numbers, different / numbers)


def main() -> None:
    """Measure and print."""
    has_card = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4, 8, 12, 16])
    parser.add_argument("--images", type=int, default=2000, help="images of each worker")
    parser.add_argument("--precision", choices=[*PRECISIONS], default="bfloat16")
    parser.add_argument("--batch", type=int, default=256 if has_card else 32)
    parser.add_argument("--seconds", type=float, default=420.0, help="after which nothing begins")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    precision: Precision = asked.precision
    decoders: list[Jpeg] = ["libjpeg", "nvjpeg"] if has_card else ["libjpeg"]
    about = machine()
    print(f"{about['gpu'] or about['processor']}, {about['cores']} cores, {precision}")
    print(f"{'decoder':<8} {'workers':>7} {'images':>8} {'fit':>8} {'score':>8}  images/s; GiB")
    began, longest = time.monotonic(), 0.0
    lines: list[Line] = []
    left_out: list[int] = []

    def save(chroma: Chroma | str | None) -> None:
        found = {
            "machine": about,
            "precision": precision,
            "batch": asked.batch,
            "lines": [asdict(line) for line in lines],
            "left_out": left_out,
            "chroma": asdict(chroma) if isinstance(chroma, Chroma) else chroma,
        }
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1))

    given = nullcontext(asked.folder) if asked.folder else tempfile.TemporaryDirectory()
    with given as folder:
        for workers in asked.workers:
            start = time.monotonic()
            if start - began + longest > asked.seconds:
                left_out.append(workers)
                continue
            place = Path(folder) / f"workers-{workers}"
            for line in measure(asked, workers, decoders, place):
                lines.append(line)
                print(
                    f"{line.decoder:<8} {line.workers:>7} {line.images:>8,} {line.fit:>8,.0f} "
                    f"{line.score:>8,.0f} {line.card_gib:>15.1f}",
                    flush=True,
                )
                save(None)
            shutil.rmtree(place)
            longest = max(longest, time.monotonic() - start)
        if left_out:
            print(f"left out for lack of time: {', '.join(map(str, left_out))} workers")
        chroma = compare_chroma(draw_files(Path(folder) / "chroma", 16))
    print(chroma if isinstance(chroma, str) else f"nvImageCodec and libjpeg: {chroma}")
    save(chroma)


if __name__ == "__main__":
    main()
