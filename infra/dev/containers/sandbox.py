"""Namespaces for a step of the run: when the step ends, however it ends, nothing of it is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from time import sleep

# The kernel kills these processes if their parent dies, and with the first process of a process
# namespace all others in it.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--")
_OWN = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def run(module: str, folder: Path, network: bool = False) -> None:
    """Run a module of this package with mounts and processes of its own.

    Parameters
    ----------
    module : str
        Name of the module; it gets the folder as its argument.
    folder : Path
        Folder of the run.
    network : bool, optional
        With a network of its own, which reaches the outside through a process of the machine.

    Raises
    ------
    SystemExit
        If it fails.
    """
    command = [
        *_TIED,
        *_OWN,
        *(["--net"] if network else []),
        sys.executable,
        "-m",
        module,
        str(folder),
    ]
    # An interrupt of the terminal reaches this process alone, which then kills the other ones.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        with _outside(process, folder) if network else nullcontext():
            code = process.wait()
    finally:
        process.kill()
        process.wait()
    if code:
        sys.exit(code)


@contextmanager
def _outside(process: subprocess.Popen[bytes], folder: Path) -> Iterator[None]:
    """Connect the network of a process to that of the machine, without changing the latter."""
    mine, its = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
    while process.poll() is None and its.readlink() == mine.readlink():
        sleep(0.01)
    system = folder / "systems/tools"
    script = (
        'mount --rbind /dev "$0/dev" && mount --bind /proc "$0/proc" && exec chroot "$0" '
        'slirp4netns --configure --mtu=65520 --disable-host-loopback "$1" tap0'
    )
    with (folder / "logs/network.log").open("wb") as log:
        link = subprocess.Popen(
            [*_TIED, "unshare", "--mount", "sh", "-c", script, system, str(process.pid)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        link.kill()
        link.wait()


def cgroup(folder: Path) -> str:
    """Return the name of the control group of all containers of a run."""
    return f"padim-dist-{sha256(str(folder).encode()).hexdigest()[:12]}"


def clean(folder: Path, logs: bool = True) -> None:
    """Remove what a run leaves on the disk, and the control groups of its containers.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    logs : bool, optional
        Also remove the logs.

    Raises
    ------
    SystemExit
        If the folder has other files.
    """
    root = Path("/sys/fs/cgroup")
    name = cgroup(folder)
    for group in (root / name, *(controller / name for controller in root.iterdir())):
        if group.is_dir():
            _remove_groups(group)
    if not folder.exists():
        return
    found = list(folder.iterdir())
    if any(path.name not in ("logs", "systems", "debootstrap") for path in found):
        sys.exit(f"containers: {folder} has files of others; give another folder")
    for path in found:
        if logs or path.name != "logs":
            shutil.rmtree(path)


def _remove_groups(group: Path) -> None:
    """Remove a control group with the inner ones; the kernel may still end their processes."""
    inner = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for path in (*inner, group):
        for attempt in range(100):
            try:
                path.rmdir()
                break
            except OSError:
                if attempt == 99:
                    raise
                sleep(0.1)
