"""A workspace of runs with made-up rows, for tests of queries that need no scored image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from padim_dist.config import Config, make_config
from padim_dist.storage import Folder
from padim_dist.store.runs.rows import READ_SCHEMAS
from padim_dist.store.runs.run import Run
from padim_dist.store.workspace import Workspace

Row = dict[str, Any]
SHARD = 10
"""Images of a shard."""


def made_config(url: str, archive: str = "/archive", **changes: Any) -> Config:
    return make_config({"workspace": url, "archive": {"url": archive}, **changes})


def config_file(config: Config, path: Path) -> Path:
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    return path


def age(place: Path, days: float) -> None:
    """Let all files in a folder be this much older."""
    for path in place.rglob("*"):
        if path.is_file():
            at = path.stat().st_mtime - days * 86_400
            os.utime(path, (at, at))


def score_rows(run_id: str, images: int, seed: int = 0, model_id: str = "m" * 16) -> list[Row]:
    """Return rows of a run: groups a and b in turn, p-values by rank, the last one unreadable."""
    rng = np.random.default_rng(seed)
    scores = rng.gamma(9.0, 2.0, images).astype(np.float32)
    ranks = scores.argsort()[::-1].argsort()
    rows = []
    for i in range(images):
        uri = f"/archive/{'ab'[i // SHARD % 2]}/{i:04d}.png"
        is_scored = i != images - 1
        rows.append(
            {
                "image_id": hashlib.sha256(uri.encode()).hexdigest()[:16],
                "uri": uri,
                "etag": "1",
                "group": "ab"[i // SHARD % 2],
                "split": "test",
                "label": "good",
                "status": "scored" if is_scored else "unreadable",
                "error": None if is_scored else "the file is empty",
                "score": float(scores[i]) if is_scored else None,
                "p_value": float((ranks[i] + 1) / (images + 1)) if is_scored else None,
                "flagged": bool(ranks[i] < images // 10) if is_scored else None,
                "p_extrapolated": False if is_scored else None,
                "peak_y": 5 if is_scored else None,
                "peak_x": 7 if is_scored else None,
                "width": 96 if is_scored else None,
                "height": 80 if is_scored else None,
                "shard": i // SHARD,
                "run_id": run_id,
                "model_id": model_id,
            }
        )
    return rows


def region_rows(rows: Sequence[Row]) -> list[Row]:
    """Return one or two regions of each flagged image, in turn."""
    kept = ("image_id", "uri", "member", "group", "label", "p_value", "shard", "run_id", "model_id")
    regions = []
    for number, row in enumerate(row for row in rows if row["flagged"]):
        for region in range(1, 2 + number % 2):
            place = {"top": 4, "left": 6, "bottom": 14 + region, "right": 26}
            found = {"region": region, "area": 150, "peak": row["score"] - region + 1}
            found |= {"peak_y": 5, "peak_x": 7}
            regions.append({**{name: row.get(name) for name in kept}, **place, **found})
    return regions


def put_run(
    config: Config,
    run_id: str,
    rows: Sequence[Row],
    finished: bool = True,
    lacking: Sequence[str] = (),
    regions: Sequence[Row] = (),
    **head: Any,
) -> None:
    """Write a run as score does; `lacking` are columns that its version did not have yet.

    The default rule flags what the rows say.
    """
    if not lacking and "alarms" not in head:
        alpha = max((row["p_value"] for row in rows if row.get("flagged")), default=1e-9)
        head["alarms"] = {"rule": "alpha", "asked": alpha, "alpha": alpha}
    run = Run(Workspace(Folder(config.workspace, config.storage_options)), run_id)
    for table, some in ((run.scores, rows), (run.regions, regions)):
        for place in sorted({row["shard"] for row in some}):
            schema = READ_SCHEMAS[table.name] if lacking else table.schema
            made = pa.Table.from_pylist([row for row in some if row["shard"] == place], schema)
            there = [name for name in lacking if name in made.column_names]
            table.replace(place, made.drop_columns(there))
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row["status"]] = statuses.get(row["status"], 0) + 1
    now = "2026-01-01T00:00:00+00:00"
    values = {
        "run_id": run_id,
        "model_id": rows[0]["model_id"],
        "snapshot": "0" * 16,
        "images": len(rows),
        "shards": list(range(1 + max(row["shard"] for row in rows))),
        "settings": [],
        "started_at": now,
        "asked_at": now,
        **({"finished_at": now, "statuses": statuses} if finished else {}),
        **head,
    }
    run.workspace.folder.put_json(f"{run.path}/run.json", values)
