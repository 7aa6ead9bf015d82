"""Measure the driver with ten million rows but no images, and its overhead for a shard.

    python -m benchmarks.scale FOLDER ROWS

makes a manifest of ROWS rows and scores it with a function instead of `score_shard` that only
writes a score table of random numbers. Everything else is real: the plan, the tasks on two
workers, the receipts, the end of the run, a second call when all is done, a query. Prints
seconds and bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from PIL import Image

import padim_dist as padim
from benchmarks.measure import Row, figure, peak_memory, script
from benchmarks.query import QUERIES, fill, table
from padim_dist.api.settings.places import archive_root, archive_settings, workspace_of
from padim_dist.api.sql.views import connect
from padim_dist.archive.listing.cut import COST_OF_AN_IMAGE, Total, cut
from padim_dist.archive.rows import ROWS_SCHEMA
from padim_dist.config import Config, make_config
from padim_dist.engine.score_job import ScoreJob
from padim_dist.engine.task import Done, Report
from padim_dist.engine.workers import open_workers
from padim_dist.events import Event, TaskStarted, ignore
from padim_dist.store.manifests import Shard, Snapshot, write_manifest
from padim_dist.store.runs.run import Run
from padim_dist.store.runs.tables import ShardCounts

_SHARD = 512
_ROWS_A_TABLE = 51_200
_BYTES = 60_000
_PAUSE, _PAUSES = 0.5, 60


def score_nothing(job: ScoreJob, _report: Report) -> ShardCounts:
    """Task: write a table of random numbers for a shard, its receipt."""
    rows = table(job.place, job.size)
    for name, value in (("run_id", job.run.run_id), ("model_id", job.model_id)):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array([value] * job.size))
    job.run.scores.create(job.place, rows)
    return ShardCounts.of(rows)


@dataclass(frozen=True)
class Pause:
    """A job of constant time that reads no image."""

    number: int
    seconds: float
    size: int = _SHARD
    sources: tuple[()] = ()

    @property
    def name(self) -> str:
        """Name with its number."""
        return f"pause {self.number}"

    def find(self) -> Done | None:
        """Return None: it is never done already."""
        return None


def pause(job: Pause, _report: Report) -> Done:
    """Task: sleep."""
    time.sleep(job.seconds)
    return Done(job.size)


def rows_of(images: int) -> Iterator[pa.Table]:
    """Yield the rows of an archive of one group, in order."""
    for start in range(0, images, _ROWS_A_TABLE):
        numbers = range(start, min(start + _ROWS_A_TABLE, images))
        values = {
            "image_id": [f"{number:016x}" for number in numbers],
            "uri": [f"/archive/camera/line/{number:09d}.jpg" for number in numbers],
            "length": np.full(len(numbers), _BYTES),
            "size": np.full(len(numbers), _BYTES),
            "offset": np.zeros(len(numbers), np.int64),
            "group": ["all"] * len(numbers),
            "split": ["test"] * len(numbers),
        }
        yield fill(ROWS_SCHEMA, values, len(numbers))


def make_archive(folder: Path, images: int) -> tuple[Config, Snapshot]:
    """Make a model of a few small images, and a manifest of many."""
    place = folder / "archive" / "good"
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(40):
        noise = random.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(place / f"{number}.jpg")
    config = make_config(
        {
            "workspace": str(folder / "audit"),
            "archive": {"url": str(folder / "archive")},
            "model": {"weights": "random", "resize": 64, "crop": 64, "channels": 40},
            "score": {"splits": ["test"], "heatmaps": "none"},
            "cluster": {"workers": 2},
        }
    )
    padim.fit(config)
    total = Total(images, images * (_BYTES + COST_OF_AN_IMAGE))
    drafts = folder / "drafts"
    drafts.mkdir()
    shards = (
        (Shard(c.shard, c.group, c.split, c.images, c.bytes, c.digest), c.rows)
        for c in cut(rows_of(images), {("all", "test"): total}, _SHARD)
    )
    settings = archive_settings(config)
    root = archive_root(config)
    manifest = write_manifest(workspace_of(config), shards, settings, {}, drafts, root)
    return config, manifest


def main() -> None:
    """Measure and print."""
    folder, images = Path(sys.argv[1]), int(sys.argv[2])
    began = time.perf_counter()
    config, manifest = make_archive(folder, images)
    found = {"shards": len(manifest.shards), "manifest": time.perf_counter() - began}
    first: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, TaskStarted) and not first:
            first.append(time.perf_counter())

    began = time.perf_counter()
    with patch("padim_dist.api.pipeline.score.score_shard", score_nothing):
        padim.score(config, listen, snapshot=manifest.snapshot)
    found["plan"] = first[0] - began
    found["run"] = time.perf_counter() - began
    began = time.perf_counter()
    again = padim.score(config, snapshot=manifest.snapshot)
    found["again"] = time.perf_counter() - began
    assert again.resumed == images
    scores = Run(workspace_of(config), str(again.run_id)).scores
    began = time.perf_counter()
    done = scores.finished()
    found["listing"] = time.perf_counter() - began
    began = time.perf_counter()
    scores.count(done)
    found["counting"] = time.perf_counter() - began
    # Before the query, whose memory belongs to DuckDB.
    found["driver"] = peak_memory()
    began = time.perf_counter()
    connect(config).execute(QUERIES["top 100 by score"]).fetchall()
    found["top 100"] = time.perf_counter() - began
    with open_workers(config.cluster, 2, ignore) as workers:
        for name, seconds, count in (("busy", _PAUSE, _PAUSES), ("empty", 0.0, 2000)):
            jobs = [Pause(number, seconds) for number in range(count)]
            began = time.perf_counter()
            workers.map(pause, jobs, "pause")
            found[name] = 2 * (time.perf_counter() - began) / count - seconds
    print(json.dumps(found))


def measure(place: Path, rows: int) -> list[Row]:
    """Return the rows of the section."""
    found = script("scale", str(place / "scale"), str(rows))
    said = f"{rows:,} rows, {found['shards']:,.0f} shards"

    def row(name: str, value: float, unit: str, note: str = "") -> Row:
        return figure("scale", f"{said}: {name}", [value], unit, note)

    return [
        row("cut and write the manifest", found["manifest"], "s"),
        row(
            "plan, from the call to the first task", found["plan"], "s", "start of workers included"
        ),
        row("whole run, scoring stubbed", found["run"], "s"),
        row("peak of the driver, scheduler included", found["driver"] / 2**30, "GiB"),
        row("resume: which receipts are there", found["listing"], "s", "one listing"),
        row("their rows counted, when the resumed run ends", found["counting"], "s"),
        row("the same command once more, when all is done", found["again"], "s"),
        row("top 100, cold", found["top 100"], "s"),
        row(f"a shard beyond its own {_PAUSE} s", 1e3 * found["busy"], "ms", "of a worker"),
        row("an empty shard", 1e3 * found["empty"], "ms", "of a worker"),
        row("overhead of a shard of 2 s", 100 * found["busy"] / 2, "%"),
    ]


if __name__ == "__main__":
    main()
