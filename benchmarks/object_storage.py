"""Compare the speed of a fit from object storage with that from the local disk.

    infra/dev/radosgw start && eval "$(infra/dev/radosgw env)"
    python -m benchmarks.object_storage FOLDER --endpoint http://127.0.0.1:9100

repeats the images of FOLDER until there are 2,000, cuts every fiftieth in half, and fits on them
with two workers, in turns: from the disk, from the server as objects and as tar files, and as
objects with 20 ms added to each request. Prints images a second from the start of the first task
to the end of the last one, and the ratios of the medians to the disk's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import fsspec
import psutil

import padim_dist as padim
from infra.dev.upload import upload
from padim_dist.config import make_config
from padim_dist.events import Event, TaskFinished, TaskStarted
from tests.s3.proxy import FaultProxy

LATENCY = 0.02
A_TAR = 250


def make_archive(source: Path, folder: Path, count: int) -> None:
    """Copy the images of the source; cut every fiftieth in half."""
    images = sorted(p for p in source.rglob("*") if p.suffix in (".jpg", ".png", ".jpeg"))
    images = [path for path in images if "ground_truth" not in path.parts]
    for number in range(count):
        path = images[number % len(images)]
        data = path.read_bytes()
        name = f"{number // 500}/{number:05d}{path.suffix}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data[: len(data) // 2] if number % 50 == 49 else data)


def rate(archive: str, layout: str, weights: str, endpoint: str | None) -> float:
    """Return images a second of a fit, without the start of the cluster."""
    seen: list[tuple[float, Event]] = []
    with tempfile.TemporaryDirectory() as workspace:
        config = make_config(
            {
                "workspace": workspace,
                "storage_options": {"s3": {"endpoint_url": endpoint}} if endpoint else {},
                "archive": {"url": archive, "layout": layout, "train": ".", "shard_images": 64},
                "model": {"weights": weights, "crop": 224},
                "cluster": {"workers": 2},
            }
        )
        padim.fit(config, lambda event: seen.append((time.monotonic(), event)))
    embedding = [(at, e) for at, e in seen if getattr(e, "stage", "") == "fit: embed"]
    start = min(at for at, e in embedding if isinstance(e, TaskStarted))
    ends = [(at, e.images) for at, e in embedding if isinstance(e, TaskFinished)]
    return sum(images for _, images in ends) / (max(at for at, _ in ends) - start)


def processor_seconds() -> tuple[float, float]:
    """Return processor seconds of the machine, and of the server's processes."""
    times = psutil.cpu_times()
    server = 0.0
    for process in psutil.process_iter(["name", "cpu_times"]):
        if str(process.info["name"]).startswith(("radosgw", "ceph")) and process.info["cpu_times"]:
            server += process.info["cpu_times"].user + process.info["cpu_times"].system
    return times.user + times.nice + times.system, server


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="random")
    asked = parser.parse_args()
    host, _, port = asked.endpoint.removeprefix("http://").partition(":")
    fs = fsspec.filesystem("s3", endpoint_url=asked.endpoint)
    bucket = f"benchmark-{time.time_ns()}"
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[tuple[float, float]]] = {}
    with (
        tempfile.TemporaryDirectory() as local,
        FaultProxy(host, int(port), latency=LATENCY) as proxy,
    ):
        make_archive(asked.folder, Path(local), asked.images)
        upload(Path(local), fs, f"{bucket}/objects", None)
        upload(Path(local), fs, f"{bucket}/tars", A_TAR)
        places = {
            "disk": (local, "folder", None),
            "objects": (f"s3://{bucket}/objects", "folder", asked.endpoint),
            "tar files": (f"s3://{bucket}/tars", "tar", asked.endpoint),
            "objects, 20 ms": (f"s3://{bucket}/objects", "folder", proxy.url),
        }
        for _ in range(asked.rounds):
            for name, (archive, layout, endpoint) in places.items():
                before = processor_seconds()
                found = rate(archive, layout, asked.weights, endpoint)
                rates.setdefault(name, []).append(found)
                whole, server = (
                    1000 * (now - then) / asked.images
                    for now, then in zip(processor_seconds(), before, strict=True)
                )
                costs.setdefault(name, []).append((whole, server))
                print(
                    f"{name:>15}  {found:6.1f} images/s, {whole:.1f} ms of the processors an "
                    f"image, {server:.1f} of it in the server",
                    flush=True,
                )
    fs.rm(bucket, recursive=True)
    for name, found in rates.items():
        share = median(found) / median(rates["disk"])
        whole, server = (median(values) for values in zip(*costs[name], strict=True))
        print(
            f"{name:>15}  median {median(found):6.1f} images/s, {share:.2f} of the disk's; "
            f"{whole:.1f} ms of the processors an image, {server:.1f} of it in the server"
        )


if __name__ == "__main__":
    main()
