"""Docker in the sandbox: its daemon, in the system of the tools, and its command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from infra.dev.containers.sandbox import cgroup


class Docker:
    """Docker's command line; paths in its arguments are those of the system of the tools."""

    def __init__(self, folder: Path) -> None:
        self.system = folder / "systems/tools"
        self.logs = folder / "logs"

    def command(self, *words: str) -> list[str]:
        """Return the command line of ``docker`` with some arguments."""
        return ["chroot", str(self.system), "docker", *words]

    def ask(self, *words: str, timeout: float = 300) -> str:
        """Return the output of a command.

        Raises
        ------
        SystemExit
            If it fails, with what it says.
        """
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, errors="replace", timeout=timeout
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}containers: failed: docker {' '.join(words)}")
        return done.stdout


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, timeout=60)


@contextmanager
def daemon(folder: Path) -> Iterator[Docker]:
    """Run Docker's daemon, with all of its files in the system of the tools.

    Its mounts, rules and processes are in the namespaces of the sandbox.
    """
    docker = Docker(folder)
    system = docker.system
    _mount("--bind", system, system)  # only a mount can become a root
    for name in ("proc", "sys", "dev"):
        _mount("--rbind", f"/{name}", system / name)
    for name in ("run", "tmp"):
        _mount("-t", "tmpfs", "tmpfs", system / name)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
    # BuildKit and containers take the name servers from there.
    (system / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    # Not by chroot: `docker exec` enters the root of the daemon's mounts, which must not be that of
    # the machine.
    root = 'cd "$0" && pivot_root . mnt && umount --lazy /mnt && exec dockerd "$@"'
    command = [
        *("unshare", "--mount", "sh", "-c", root, str(system)),
        *("--storage-driver=overlay2", "--log-level=warn"),
        *("--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{cgroup(folder)}"),
    ]
    with (folder / "logs/dockerd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    end = monotonic() + 60
    while subprocess.run(docker.command("info"), capture_output=True, timeout=60).returncode:
        if process.poll() is not None or monotonic() > end:
            sys.exit(f"containers: Docker's daemon did not start; see {folder}/logs/dockerd.log")
        sleep(0.2)
    try:
        yield docker
    finally:
        process.terminate()
        process.wait(60)


def go_offline() -> None:
    """Cut the sandbox off from the outside."""
    subprocess.run(["ip", "link", "set", "tap0", "down"], check=True, timeout=60)
