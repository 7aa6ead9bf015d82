"""Measure queries over 10 million score rows, before and after `compact`.

    python benchmarks/query.py [--shards 100] [--rows 100000] [--threads 2]

makes a run whose score tables have the real columns (long-tailed scores, p-values by rank).
Prints for each query the medians of five warm runs (seconds, and processor
seconds, which depend less on other load), and how many of the row groups were read, by DuckDB's
own profile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from padim_dist.api.analysis.compact import compact
from padim_dist.api.sql.views import connect
from padim_dist.config import Config, make_config
from padim_dist.storage import Folder
from padim_dist.store.runs.head import RunHead
from padim_dist.store.runs.rows import SCORES_SCHEMA
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

RUN, MODEL = "6f1d3a0c5b7e9d42", "9cb67b658613abfa"
GROUPS = 50
QUERIES = {
    "top 100 by score": "FROM scores ORDER BY score DESC LIMIT 100",
    "top 100 by p-value": "FROM scores ORDER BY p_value, score DESC LIMIT 100",
    "scores above 60": "FROM scores WHERE score > 60",
    "one image": "FROM scores WHERE image_id = '{image}'",
    "another run": "FROM scores WHERE run_id = 'none'",
    "medians by group": 'SELECT "group", median(score) FROM scores GROUP BY "group"',
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_config({"workspace": folder, "archive": {"url": f"{folder}/archive"}})
        make_run(folder, arguments.shards, arguments.rows)
        measure("a file a shard", config, arguments.threads, Path(folder))
        started = time.monotonic()
        done = compact(config)
        seconds = time.monotonic() - started
        print(f"compact: {done.files_removed} files to {done.files} in {seconds:.1f} s")
        measure("compacted", config, arguments.threads, Path(folder))


def make_run(folder: str, shards: int, rows: int) -> None:
    """Make a finished run without images."""
    run = Run(Workspace(Folder(folder)), RUN)
    for place in range(shards):
        run.scores.create(place, table(place, rows))
    now = "2026-01-01T00:00:00+00:00"
    head = RunHead(
        run_id=RUN,
        model_id=MODEL,
        snapshot="0" * 16,
        settings=[],
        asked={},
        alarms=None,
        shards=[*range(shards)],
        images=shards * rows,
        started_at=now,
        asked_at=now,
        finished_at=now,
        statuses={"scored": shards * rows},
    )
    run.workspace.folder.put_json(f"{run.path}/run.json", asdict(head))


def table(place: int, rows: int) -> pa.Table:
    """Return the score table of a shard of one group."""
    rng = np.random.default_rng(place)
    scores = rng.gamma(9.0, 2.0, rows).astype(np.float32)
    ranks = scores.argsort()[::-1].argsort()
    numbers = np.arange(place * rows, (place + 1) * rows)
    group = f"camera-{place % GROUPS:02d}"
    ids = rng.integers(0, 2**63, rows)
    values = {
        "image_id": [f"{number:016x}" for number in ids],
        "uri": [f"s3://photos/2026/{group}/{number:09d}.jpg" for number in numbers],
        "etag": [f"{number:032x}" for number in rng.integers(0, 2**63, rows)],
        "group": [group] * rows,
        "split": ["test"] * rows,
        "status": ["scored"] * rows,
        "score": scores,
        "p_value": (ranks + 1) / (rows + 1),
        "p_extrapolated": np.zeros(rows, bool),
        "peak_y": rng.integers(0, 1080, rows),
        "peak_x": rng.integers(0, 1920, rows),
        "width": np.full(rows, 1920),
        "height": np.full(rows, 1080),
        "heatmap_row": numbers,
        "shard": np.full(rows, place),
        "run_id": [RUN] * rows,
        "model_id": [MODEL] * rows,
        "scored_at": pa.array(1_767_225_600_000_000 + numbers, pa.int64()),
    }
    return fill(SCORES_SCHEMA, values, rows)


def fill(schema: pa.Schema, values: Mapping[str, Any], rows: int) -> pa.Table:
    """Return a table of some columns; the others are null."""
    columns = [
        pa.array(values[field.name]).cast(field.type)
        if field.name in values
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def measure(title: str, config: Config, threads: int, folder: Path) -> None:
    """Measure the time of each query, and the rows read."""
    started = time.monotonic()
    database = connect(config)
    connected = time.monotonic() - started
    database.execute(f"SET threads = {threads}")
    ((total, image),) = database.sql(
        "SELECT count(*), arg_max(image_id, score) FROM scores"
    ).fetchall()
    print(f"{title}: {total:,} rows, connected in {connected:.2f} s")
    for name, query in QUERIES.items():
        query = query.format(image=image)
        seconds, busy = [], []
        for _ in range(6):
            started, before = time.monotonic(), time.process_time()
            database.execute(query).fetchall()
            seconds.append(time.monotonic() - started)
            busy.append(time.process_time() - before)
        groups, there = row_groups(database, query, folder / "profile.json")
        times = (
            f"{statistics.median(seconds[1:]):6.2f} s, {statistics.median(busy[1:]):6.2f} of CPU"
        )
        print(f"  {name:<20} {times}, {groups} of {there} row groups", flush=True)


def row_groups(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> tuple[int, int]:
    """Return row groups that a query reads, and those of its tables, summed over its passes."""
    database.execute("PRAGMA enable_profiling = 'json'")
    database.execute(f"PRAGMA profiling_output = '{path}'")
    database.execute(query).fetchall()
    database.execute("PRAGMA disable_profiling")
    profile = json.loads(path.read_text())["query"]
    return profile["total_row_groups_scanned"], profile["total_row_groups_to_scan"]


if __name__ == "__main__":
    main()
