"""Measure the speed and the memory of listing an archive.

    python benchmarks/listing.py disk
    python benchmarks/listing.py s3

makes archives of 10,000 and 100,000 empty objects in a hundred folders, on the local disk
or in a moto server, and runs `index` on each in a fresh process. Prints a line for each
size: objects a second, and the peak resident memory of that process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZES = (10_000, 100_000)
FOLDERS = 100
_INDEX = """
import json, sys, time
from pathlib import Path
from padim_dist.api.pipeline.index import index
from padim_dist.config import make_config
config = make_config(json.loads(sys.argv[1]))
started = time.monotonic()
result = index(config)
seconds = time.monotonic() - started
# Not ru_maxrss, which includes the peak of the parent process.
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps({"images": result.images, "seconds": seconds, "peak": peak}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", choices=("disk", "s3"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            make = on_disk if arguments.store == "disk" else in_s3
            with make(Path(folder), size) as tree:
                measure(arguments.store, size, {**tree, "workspace": f"{folder}/audit"})


def names(size: int) -> Iterator[str]:
    """Return the paths of an archive."""
    return (f"cam-{i % FOLDERS:02d}/good/{i:07d}.jpg" for i in range(size))


@contextmanager
def on_disk(folder: Path, size: int) -> Iterator[dict[str, object]]:
    """Make an archive on disk."""
    for i in range(FOLDERS):
        (folder / f"archive/cam-{i:02d}/good").mkdir(parents=True)
    for name in names(size):
        (folder / "archive" / name).touch()
    yield {"archive": {"url": f"{folder}/archive"}}


@contextmanager
def in_s3(_: Path, size: int) -> Iterator[dict[str, object]]:
    """Make an archive in the memory of a moto server, since 100,000 requests take minutes."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1"
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        backend = s3_backends["123456789012"]["aws"]
        bucket = f"listing-{size}"
        backend.create_bucket(bucket, "us-east-1")
        for name in names(size):
            backend.put_object(bucket, f"photos/{name}", b"")
        host, port = server.get_host_and_port()
        yield {
            "archive": {"url": f"s3://{bucket}/photos"},
            "storage_options": {"s3": {"endpoint_url": f"http://{host}:{port}"}},
        }
    finally:
        server.stop()


def measure(store: str, size: int, tree: dict[str, object]) -> None:
    """Index in a fresh process."""
    archive = tree["archive"]
    assert isinstance(archive, dict)
    archive["group"] = "^(?P<group>[^/]+)/"
    command = [sys.executable, "-c", _INDEX, json.dumps(tree)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    assert found["images"] == size, found
    print(
        f"{store:>5} {size:>9,} objects: {size / found['seconds']:>8,.0f} objects/s, "
        f"peak {found['peak']:.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
