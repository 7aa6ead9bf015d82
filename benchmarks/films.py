"""Films: accuracy on a fixed camera, speed against decoding alone, memory over an hour.

``python -m benchmarks.films clips``: frame and pixel AUROC on films of
``../shared/data/ped2_clips`` (lossless), with and without the crop of the paper, and how many of
the highest scores lie at the border.
``speed``: frames a second of one core, in processor time so that other load does not matter, of
the index, a fit and a score, against decoding and what comes after it, each alone. ``memory``:
peaks of a worker and of the driver over films of 20 minutes and of an hour (10 frames a second).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import padim_dist as padim
from benchmarks.measure import Proportional
from benchmarks.pictures import WEIGHTS
from padim_dist.api.settings.plans import load_state, plan_embedding
from padim_dist.archive.listing.layouts import find_layout
from padim_dist.archive.listing.layouts.base import Listing
from padim_dist.archive.listing.spool import Spool
from padim_dist.archive.reading.ahead import Reading
from padim_dist.archive.reading.objects import ObjectFetcher
from padim_dist.archive.reading.reader import ImageReader
from padim_dist.archive.rows import ImageRow, to_rows
from padim_dist.config import Config, load_config
from padim_dist.core.covariance import Covariance
from padim_dist.core.embedding import Embedder
from padim_dist.core.gaussian import factorise
from padim_dist.core.heatmap import AnomalyMap, find_peaks
from padim_dist.core.moments import Moments
from padim_dist.engine.worker import batches
from padim_dist.storage import Folder

CLIPS = Path("../shared/data/ped2_clips")


def main() -> None:
    """Measure one part and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("clips", "speed", "memory"))
    parts = {"clips": _clips, "speed": _speed, "memory": _memory}
    with tempfile.TemporaryDirectory(prefix="films-") as folder:
        parts[parser.parse_args().part](Path(folder))


def _write(
    path: Path, pictures: Iterator[np.ndarray], rate: int, codec: str, **options: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        for number, shown in enumerate(pictures):
            if not number:
                stream.height, stream.width = shown.shape[:2]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        film.mux(stream.encode())


def _clips(folder: Path) -> None:
    root = folder / "films" / "ped2"
    for clip in sorted([*CLIPS.glob("train/*"), *CLIPS.glob("test/*")]):
        frames = (np.array(Image.open(p).convert("RGB")) for p in sorted(clip.glob("*.jpg")))
        _write(root / clip.parent.name / f"{clip.name}.mkv", frames, 10, "ffv1")
    for mask in CLIPS.glob("ground_truth/*/*.png"):
        target = root / "ground_truth" / mask.parent.name / mask.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(mask.read_bytes())
    for crop in (256, 224):
        config = _config(folder, f"crop-{crop}", f"model.crop={crop}")
        padim.fit(config)
        padim.score(config)
        figures = padim.evaluate(config).groups["ped2"]
        print(
            f"crop {crop}: {figures.images} frames, {figures.anomalous} anomalous; frame AUROC "
            f"{figures.image_auroc:.4f}, pixel AUROC {figures.pixel_auroc:.4f}, PRO "
            f"{figures.pro:.4f}; {_at_the_border(config)}",
            flush=True,
        )


def _at_the_border(config: Config) -> str:
    """Return the share of the highest-scoring normal frames whose peak lies at the border."""
    sql = (
        "SELECT avg((peak_y < 0.0625 * height OR peak_y >= 0.9375 * height OR "
        "peak_x < 0.0625 * width OR peak_x >= 0.9375 * width)::INT) FROM (SELECT * FROM scores "
        "WHERE {} ORDER BY score DESC LIMIT 50)"
    )
    shares = []
    for label in ("good", "anomaly"):
        ((share,),) = padim.query(config, sql=sql.format(f"label = '{label}'")).rows
        shares.append(f"{share:.0%} of the 50 highest '{label}' frames")
    return f"peak in the outer sixteenth: {', '.join(shares)}"


def _config(folder: Path, name: str, *settings: str) -> Config:
    return load_config(
        "configs/fixed_cameras.yaml",
        [
            f"workspace={folder / name}",
            f"archive.url={folder / 'films'}",
            "archive.video.every=1 frame",
            f"model.weights={WEIGHTS}",
            *settings,
        ],
    )


def _rows(folder: Path) -> list[ImageRow]:
    listing = Listing(Folder(str(folder)), "(^|/)train/", None, every="1 frame")
    with Spool() as spool:
        find_layout("video")(listing, spool)
        return [row for table in spool.sorted().tables() for row in to_rows(table)]


def _speed(folder: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    path = folder / "films" / "cam" / "train" / "a.mp4"
    _write(path, _moving(720, 1280, 320), 25, "libx264", preset="veryfast", crf="23", g="50")
    config = _config(folder, "audit")
    spec = plan_embedding(config)
    embedder = Embedder(spec, load_state(config, spec.trunk), torch.device("cpu"))
    reader = ImageReader(ObjectFetcher({}), spec.geometry, config.archive.max_pixels)
    reading = Reading(reader, 4, 1)
    began = time.process_time()
    rows = _rows(folder / "films")
    index = len(rows) / (time.process_time() - began)
    moments = Moments.zeros(spec.shape)
    kept: list[Any] = []

    def fit() -> None:
        for _, pixels in batches(rows, reading, spec.batch, True):
            moments.update(embedder(pixels))
            kept[:] = [pixels]

    def trunk() -> None:
        for _ in range(len(rows) // spec.batch):
            moments.update(embedder(kept[0]))

    def judge(pixels: Tensor) -> None:
        distances = spec.shape.unnest(gaussian.distances(embedder(pixels)))
        find_peaks(anomaly_map.full(distances))

    def score() -> None:
        for _, pixels in batches(rows, reading, spec.batch, True):
            judge(pixels)

    def judging() -> None:
        for _ in range(len(rows) // spec.batch):
            judge(kept[0])

    def decode() -> None:
        with av.open(str(path)) as film:
            film.streams.video[0].codec_context.thread_count = 1
            for frame in film.decode(video=0):
                frame.to_ndarray(format="rgb24")

    fit()
    gaussian = factorise(moments, Covariance.of(moments, config.model.epsilon))
    anomaly_map = AnomalyMap.build(spec.shape.grids[0], spec.geometry.crop, config.model.sigma)
    works = {"decode": decode, "trunk": trunk, "fit": fit, "judging": judging, "score": score}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(3):
        for name, work in works.items():
            began = time.process_time()
            work()
            times[name].append((time.process_time() - began) / len(rows))
    costs = {name: median(found) for name, found in times.items()}
    print(
        f"1280x720, {len(rows)} frames, 1 core: index {index:.0f} frames/s; decoding alone "
        f"{1 / costs['decode']:.1f}"
    )
    for alone, whole in (("trunk", "fit"), ("judging", "score")):
        both = costs["decode"] + costs[alone]
        print(
            f"{alone} alone {1 / costs[alone]:.1f}, decoding and {alone} one after the other "
            f"{1 / both:.1f}, {whole} {1 / costs[whole]:.1f} frames/s: {both / costs[whole]:.3f}"
        )


def _memory(folder: Path) -> None:
    """Fit and score a film of 20 minutes and one of an hour, by one worker that starts anew."""
    for minutes in (20, 60):
        root = folder / f"films-{minutes}"
        pictures = _moving(120, 160, 600 * minutes)
        _write(root / "cam" / "train" / "a.mp4", pictures, 10, "mpeg4", g="50")
        config = _config(
            folder,
            f"audit-{minutes}",
            f"archive.url={root}",
            "model.resize=64",
            "model.crop=64",
            "score.splits=[train]",
            "cluster.workers=1",
        )
        peaks = {}
        for name, work in (("index", padim.index), ("fit", padim.fit), ("score", padim.score)):
            memory = Proportional()
            with memory.sampled():
                work(config)
            peaks[name] = f"{name} {memory.worker / 2**20:.0f}, {memory.driver / 2**20:.0f}"
        print(f"{600 * minutes:,} frames, MiB of worker, driver: {'; '.join(peaks.values())}")


def _moving(height: int, width: int, count: int) -> Iterator[np.ndarray]:
    """Yield frames in which a background with a texture moves slowly."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 32, width // 8 + 32, 3), dtype=np.uint8)
    texture = np.array(Image.fromarray(coarse).resize((width + 256, height + 256)))
    for number in range(count):
        y, x = number % 200, (number * 2) % 250
        yield np.ascontiguousarray(texture[y : y + height, x : x + width])


if __name__ == "__main__":
    main()
