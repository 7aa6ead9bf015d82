"""The image and the compose file, run for real: ``make containers``.

Base images are made from Debian packages, without any image registry, so that it also runs where
only package mirrors can be reached. The image is built by its Dockerfile, everything in
``infra/compose.yaml`` but Grafana comes up, a model is fitted and promoted, nights run, workers are
scaled, and all of it is taken down.

    python -m infra.dev.containers [FOLDER]     from the root of the repository; build/containers

It needs root, a Debian with apt, 25 GB of disk and 15 minutes. Docker runs in namespaces of its
own: networks, rules of the firewall, mounts and processes are not those of the machine, and end
with the run, however it ends. Only the logs in FOLDER stay; an interrupted run that could not
remove its files leaves that to the next.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from infra.dev.containers import debian, sandbox
from infra.dev.containers.terminal import say


def check() -> None:
    """Exit with a message if something that the run needs is missing."""
    if os.getuid() != 0:
        sys.exit("containers: Docker and its namespaces need root: run it with sudo")
    for program in ("apt-get", "dpkg-deb", "setpriv", "unshare"):
        if shutil.which(program) is None:
            sys.exit(f"containers: {program} is not installed: run it on Debian")


def main() -> None:
    """Run in sandboxes: make the folders of systems, then build and run the images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/containers"))
    folder = parser.parse_args().folder.absolute()
    check()
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sandbox.clean(folder)  # of a run that was killed
    (folder / "logs").mkdir(parents=True)
    try:
        debian.fetch_debootstrap(folder)
        sandbox.run("infra.dev.containers.debian", folder)
        sandbox.run("infra.dev.containers.scenario", folder, network=True)
    finally:
        sandbox.clean(folder, logs=False)
    minutes = (time.monotonic() - began) / 60
    say(f"[bold]all is well[/], in {minutes:.0f} minutes; logs: {folder}/logs")


if __name__ == "__main__":
    main()
