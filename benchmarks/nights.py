"""Measure what a night costs after many nights: requests, seconds, bytes, and the workspace's size.

    python -m benchmarks.nights --nights 365
    python -m benchmarks.nights --nights 365 --retention --copied

Every night a few tiny images come to an archive on the local disk, and `padim.audit` scores them
with one worker. The workspace is on an S3 server in this process (moto), which counts the requests
of all processes. A day passes by setting the clock of the server ahead. With `--copied`
only the nights that are shown, and those around them, are done; the others are copies of the night
before them, under ids of their own and with the times of their day, which takes a tenth of the
time. Prints a table: of each figure the median of nine nights (`--around 4`).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3 import models
from moto.s3.models import s3_backends
from PIL import Image

import padim_dist as padim
from padim_dist.api.settings.places import archive_settings, workspace_of
from padim_dist.config import ClusterConfig, Config, make_config
from padim_dist.engine.cluster.local import open_local
from padim_dist.store.history import last_entry
from padim_dist.store.nights import find_summary, last_night
from padim_dist.store.numbered import numbered_file
from padim_dist.store.runs.turns import newest_turn
from tests.s3.moto import moto_server

os.environ.update(
    AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1"
)
BUCKET = "nights"
TERMS = {"heatmaps": "10d", "runs": "60d", "models": "60d", "moments": "30d", "manifests": "30d"}
NORMAL, NEW = 24, 4


@dataclass(frozen=True)
class Cost:
    """Figures of a night: requests, seconds, bytes that were written; objects and bytes after."""

    requests: int
    seconds: float
    written: int
    objects: int
    size: int


class Counter:
    """Counts the requests of a server in this process, and the bytes that come with them."""

    def __init__(self) -> None:
        self.requests = self.written = 0
        self.kinds: dict[str, int] = {}
        self._lock = threading.Lock()
        inner = DomainDispatcherApplication.__call__

        def call(app: Any, environment: Mapping[str, Any], respond: Any) -> Iterable[bytes]:
            with self._lock:
                kind = str(environment["REQUEST_METHOD"])
                if "list-type" in str(environment.get("QUERY_STRING", "")):
                    kind = "LIST"
                self.kinds[kind] = self.kinds.get(kind, 0) + 1
                self.requests += 1
                self.written += int(environment.get("CONTENT_LENGTH") or 0)
            return inner(app, environment, respond)

        DomainDispatcherApplication.__call__ = call


def keys() -> list[Any]:
    """Return all objects of the server."""
    (backend,) = s3_backends.values()
    buckets = [one.buckets[BUCKET] for one in backend.values() if one.buckets]
    return [key for bucket in buckets for key in bucket.keys.values()]


class Clock:
    """The clock of the server, which gives objects their time of change."""

    def __init__(self) -> None:
        self.days = 0
        models.utcnow = self._now  # type: ignore[attr-defined]

    def _now(self) -> datetime:
        return datetime.now(UTC).replace(tzinfo=None) + timedelta(days=self.days)


def arrive(root: Path, kind: str, count: int, seed: int) -> None:
    """Draw a few images of noise."""
    random = np.random.default_rng(seed)
    folder = root / kind
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = random.integers(100, 140, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{seed:04d}-{number}.png")


@contextmanager
def nights_of(place: Path, retention: bool) -> Iterator[Config]:
    """Yield a configuration with a server, a cluster and a promoted model."""
    arrive(place / "archive", "good", NORMAL, 0)
    with moto_server() as (host, port), open_local(ClusterConfig(workers=1), 1, None) as client:
        config = make_config(
            {
                "workspace": f"s3://{BUCKET}/audit",
                "storage_options": {"s3": {"endpoint_url": f"http://{host}:{port}"}},
                "archive": {"url": str(place / "archive"), "train": "^good/"},
                "model": {"weights": "random", "resize": 64, "crop": 64, "channels": 20},
                "score": {"splits": ["test"]},
                "cluster": {"kind": "address", "address": client.scheduler.address},
                "retention": TERMS if retention else None,
            }
        )
        import s3fs

        s3fs.S3FileSystem(endpoint_url=f"http://{host}:{port}").mkdir(BUCKET)
        padim.promote(config, model=padim.fit(config).model_id, note="")
        yield config


def copy_night(config: Config, number: int) -> None:
    """Write the newest night, its run and its manifests once more, under new ids.

    They go straight into the memory of the server.
    """
    (backend,) = (one for region in s3_backends.values() for one in region.values() if one.buckets)
    workspace, settings = workspace_of(config), archive_settings(config)
    night, entry = last_night(workspace, settings), last_entry(workspace, settings)
    assert night
    assert entry
    summary = find_summary(workspace, night.path)
    assert summary
    (run,) = summary.runs
    ids = {one: secrets.token_hex(8) for one in (run, entry.snapshot, str(entry.increment))}
    at = (datetime.now(UTC) + timedelta(days=number)).isoformat()
    turn = newest_turn(workspace)
    assert turn
    new_entry = replace(
        entry,
        number=entry.number + 1,
        snapshot=ids[entry.snapshot],
        increment=ids[str(entry.increment)],
        changes=str(entry.changes).replace(entry.snapshot, ids[entry.snapshot]),
    )
    new_night = replace(
        night,
        number=number,
        path=workspace.night(settings, number),
        first=new_entry.number,
        last=new_entry.number,
        snapshots=[str(new_entry.increment)],
    )
    new_summary = replace(summary, number=number, runs=[ids[run]], day=at[:10])

    def put(path: str, data: bytes) -> None:
        backend.put_object(BUCKET, f"audit/{path}", data)

    def put_json(path: str, values: Any) -> None:
        put(path, json.dumps(values).encode())

    places = [workspace.run(run), *map(workspace.manifest, (entry.snapshot, str(entry.increment)))]
    starts = tuple(f"audit/{place}/" for place in (*places, night.path))
    for key in [key for key in keys() if key.name.startswith(starts)]:
        path, data = key.name.removeprefix("audit/").replace(night.path, new_night.path), key.value
        for old, new in ids.items():
            path = path.replace(old, new)
            data = data.replace(old.encode(), new.encode()) if path.endswith(".json") else data
        if path.endswith("/run.json"):
            times = {"turn": turn + 1, "asked_at": at, "finished_at": at}
            data = json.dumps({**json.loads(data), **times}).encode()
        put(path, data)
    put(str(new_entry.changes), workspace.folder.read(str(entry.changes)))
    put_json(numbered_file(workspace.history(settings), new_entry.number), asdict(new_entry))
    put_json(numbered_file(workspace.nights(settings), number), asdict(new_night))
    put_json(f"{new_night.path}/summary.json", asdict(new_summary))
    put_json(numbered_file(workspace.turns, turn + 1), {"number": turn + 1, "run_id": ids[run]})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--retention", action="store_true")
    parser.add_argument("--copied", action="store_true")
    parser.add_argument("--around", type=int, default=4, help="nights before and after one")
    asked = parser.parse_args()
    counter, clock, costs = Counter(), Clock(), dict[int, Cost]()
    shown = [night for night in (10, 100, asked.nights) if night <= asked.nights]
    done = {night + near for night in shown for near in range(-asked.around, asked.around + 1)}
    with (
        tempfile.TemporaryDirectory() as folder,
        nights_of(Path(folder), asked.retention) as config,
    ):
        for night in range(1, asked.nights + asked.around + 1):
            if asked.copied and night > shown[0] and night not in done:
                copy_night(config, night)
                clock.days += 1
                continue
            arrive(Path(folder) / "archive", "test", NEW, night)
            requests, written = counter.requests, counter.written
            counter.kinds.clear()
            started = time.monotonic()
            (summary,) = padim.audit(config).nights
            seconds = time.monotonic() - started
            assert summary.images == NEW
            sizes = [key.size for key in keys()]
            requests, written = counter.requests - requests, counter.written - written
            costs[night] = Cost(requests, seconds, written, len(sizes), sum(sizes))
            clock.days += 1
            print(f"night {night}: {costs[night]} {counter.kinds}", flush=True)
    print(
        f"{'night':>6} {'requests':>9} {'seconds':>8} {'new bytes':>10} {'objects':>8} {'size':>12}"
    )
    for night in shown:
        around = [cost for at, cost in costs.items() if abs(at - night) <= asked.around]
        figures = {n: median(getattr(one, n) for one in around) for n in Cost.__annotations__}
        print(
            f"{night:6} {figures['requests']:9,.0f} {figures['seconds']:8.2f} "
            f"{figures['written']:10,.0f} {figures['objects']:8,.0f} {figures['size']:12,.0f}"
        )


if __name__ == "__main__":
    main()
