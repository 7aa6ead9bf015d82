"""Compare `fit` and `score` with the limit: only reading, decoding, resizing and the trunk.

The limit uses the same functions with the same settings in the same warm workers, but
measures nothing and writes nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from distributed import Client

import padim_dist as padim
from benchmarks.measure import ROOT, Row, Runs, figure, interleave, ratio
from benchmarks.pictures import Pictures
from padim_dist.api.pipeline.fit_plan import plan_fit
from padim_dist.archive.rows import ImageRow, RefusedRow
from padim_dist.config import Config
from padim_dist.engine.cluster.local import open_local
from padim_dist.engine.fit import EmbedJob
from padim_dist.engine.worker import batches, get_embedder, set_up
from padim_dist.events import ignore

_CASES = (
    (1, "torch", "float32"),
    (5, "torch", "float32"),
    (20, "torch", "float32"),
    (20, "torch", "bfloat16"),
    (5, "openvino", "int8"),
    (20, "openvino", "int8"),
)
"""How many times each image is there, engine and precision."""


@torch.inference_mode()
def embed_only(job: EmbedJob, rows: Sequence[ImageRow | RefusedRow], threads: int) -> int:
    """Task: read, decode, resize and embed some rows of a manifest."""
    set_up(threads)
    embedder = get_embedder(job.workspace, job.embedding)
    images = 0
    for loaded, pixels in batches(rows, job.reading, job.embedding.batch, False):
        if pixels is not None:
            embedder.maps(pixels)
        images += len(loaded)
    return images


def rate_of_limit(client: Client, config: Config) -> Callable[[], float]:
    """Return work that measures images a second of the limit, on all workers at the same time."""
    jobs = plan_fit(config, ignore, None).jobs
    rows = [row for job in jobs for row in job.rows()]
    threads = config.cluster.threads

    def work() -> float:
        workers = list(client.nthreads())
        shares = [rows[i :: len(workers)] for i in range(len(workers))]
        began = time.perf_counter()
        futures = [
            client.submit(embed_only, jobs[0], own, threads, workers=[worker], pure=False)
            for worker, own in zip(workers, shares, strict=True)
        ]
        images = sum(future.result() for future in futures)
        return images / (time.perf_counter() - began)

    return work


def rates(
    pictures: Pictures, place: Path, rounds: int, few: Pictures | None = None, **model: Any
) -> Runs:
    """Return images a second of the limit, `fit` and `score`; `few` images warm the workers up."""
    with open_local(pictures.config(place / "warm").cluster, 2, None) as client:
        address = client.scheduler.address
        limit = rate_of_limit(client, pictures.config(place / "limit", address, model=model))

        def fit(archive: Pictures = pictures) -> float:
            shutil.rmtree(place / "audit", ignore_errors=True)
            config = archive.config(place / "audit", address, model=model)
            padim.index(config)
            began = time.perf_counter()
            images = padim.fit(config).images
            return images / (time.perf_counter() - began)

        def score(archive: Pictures = pictures) -> float:
            config = archive.config(place / "audit", address, model=model)
            began = time.perf_counter()
            images = padim.score(config).images
            return images / (time.perf_counter() - began)

        fit(few or pictures)
        score(few or pictures)
        return interleave(rounds, {"limit": limit, "fit": fit, "score": score})


_TELL = """
import sys
import padim_dist as padim
def tell(event):
    print(type(event).__name__, getattr(event, "done", 0), flush=True)
padim.score(padim.load_config(sys.argv[1]), tell)
"""


def start_up(pictures: Pictures, place: Path, rounds: int) -> dict[str, list[float]]:
    """Return seconds of a cold score until its first task, its first images, and its end."""
    config = pictures.config(place / "start-up")
    padim.fit(config)
    file = place / "start-up.yaml"
    found: dict[str, list[float]] = {"its first task": [], "its first images": [], "its end": []}
    for number in range(rounds):
        tree = config.model_dump(mode="json", exclude_unset=True)
        tree["score"] = {"pixel_alpha": 0.001 + number * 1e-5}  # makes another run
        file.write_text(yaml.safe_dump(tree))
        began = time.perf_counter()
        seen: dict[str, float] = {}
        command = [sys.executable, "-c", _TELL, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event, done = line.split()
                if event == "TaskStarted":
                    seen.setdefault("its first task", time.perf_counter() - began)
                if int(done):
                    seen.setdefault("its first images", time.perf_counter() - began)
        seen["its end"] = time.perf_counter() - began
        for name, value in seen.items():
            found[name].append(value)
    return found


def measure(pictures: Pictures, place: Path, rounds: int) -> list[Row]:
    """Return the rows of the section."""
    rows = []
    for times, engine, precision in _CASES:
        many = pictures.times(place / f"x{times}", times)
        folder = place / f"{times}-{engine}-{precision}"
        some = rounds if times < 20 else 2
        found = rates(many, folder, some, few=pictures, engine=engine, precision=precision)
        normal = sum(1 for _ in (many.root / "train").rglob("*.jpg"))
        by = "" if engine == "torch" else f" by {engine}"
        what = f"{normal:,} normal images, {precision}{by}"
        rows.append(figure("limit", f"limit, {what}", found["limit"], "images/s"))
        for work in ("fit", "score"):
            rows.append(figure("limit", f"{work}, {what}", found[work], "images/s"))
            rows.append(ratio("limit", f"{work} of the limit, {what}", found[work], found["limit"]))
    shown = f"{sum(1 for _ in pictures.root.rglob('*.jpg')):,} images"
    for name, values in start_up(pictures, place, rounds).items():
        rows.append(figure("limit", f"a score of {shown}, cold, to {name}", values, "s"))
    return rows
