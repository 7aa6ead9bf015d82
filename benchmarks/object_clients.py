"""Measure what an object of S3 costs the client: processor time of its process alone.

    infra/dev/radosgw start && eval "$(infra/dev/radosgw env)"
    python -m benchmarks.object_clients --endpoint http://127.0.0.1:9100

writes 2,000 objects of 100 kB, reads all of them by 16 threads, in turns by s3fs alone and as the
product does, checks their MD5, and prints the medians.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import fsspec
from fsspec.asyn import sync
from rich.progress import track

from padim_dist.bodies import Body
from padim_dist.s3.reads import _get
from padim_dist.storage import Folder

SIZE, DEADLINE = 100_000, 60.0


def processor_seconds() -> float:
    """Return the processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_all(read: Callable[[str], bytes], names: list[str], threads: int) -> tuple[float, float]:
    """Return milliseconds of the processor an object, and objects a second."""
    before, began = processor_seconds(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        size = sum(len(data) for data in pool.map(read, names))
    assert size == SIZE * len(names)
    took = time.perf_counter() - began
    return 1000 * (processor_seconds() - before) / len(names), len(names) / took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    bucket = f"clients-{time.time_ns()}"
    options = {"s3": {"endpoint_url": asked.endpoint}}
    folder = Folder(f"s3://{bucket}/images", options)
    fs, names = folder.fs, [f"{number:05d}.jpg" for number in range(asked.objects)]
    fs.mkdir(bucket)
    for name in track(names, "write"):
        fs.pipe_file(folder.at(name), os.urandom(SIZE))
    other = fsspec.filesystem("s3", endpoint_url=asked.endpoint, skip_instance_cache=True)

    def by_s3fs(name: str) -> bytes:
        key = f"images/{name}"
        body: Body = sync(other.loop, _get, other, bucket, key, None, None, timeout=DEADLINE)
        assert hashlib.md5(body.data, usedforsecurity=False).hexdigest() == body.md5
        return body.data

    def as_here(name: str) -> bytes:
        return folder.read_body(name, timeout=DEADLINE).data

    found: dict[str, list[tuple[float, float]]] = {"s3fs": [], "as here": []}
    for _ in range(asked.rounds):
        for way, read in (("s3fs", by_s3fs), ("as here", as_here)):
            found[way].append(read_all(read, names, asked.threads))
            print("{:>8}  {:.2f} ms, {:,.0f} objects/s".format(way, *found[way][-1]), flush=True)
    fs.rm(bucket, recursive=True)
    for way, figures in found.items():
        cost, rate = (median(values) for values in zip(*figures, strict=True))
        print(f"{way:>8}  median {cost:.2f} ms of the processor an object, {rate:,.0f} objects/s")


if __name__ == "__main__":
    main()
