"""Illnesses of a store, which come and go; `tests/chaos/site` carries the orders out."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.s3.proxy import FaultProxy

SITE = Path(__file__).parent / "site"
ERRNOS = {
    "EIO": errno.EIO,
    "EACCES": errno.EACCES,
    "ESTALE": errno.ESTALE,
}
REFUSALS = {
    "403": (403, "AccessDenied"),
    "404 of the bucket": (404, "NoSuchBucket"),
    "503 for ever": (503, "SlowDown"),
}
UNMOUNT, NO_NAME = "unmount", "name that does not resolve"
ON_DISK = (*ERRNOS, UNMOUNT)
ON_S3 = (*REFUSALS, NO_NAME)
HOST = "localhost"


@contextmanager
def orders_obeyed(control: Path) -> Iterator[None]:
    """Let this process, and those that it starts, obey the orders in a file."""
    added = {"PADIM_TESTS_ILL": str(control), "PYTHONPATH": str(SITE)}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    sys.path.insert(0, str(SITE))
    sys.modules.pop("sitecustomize", None)
    import_module("sitecustomize")
    try:
        yield
    finally:
        sys.path.remove(str(SITE))
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Illness:
    """Something that makes a store ill, and something that heals it."""

    begin: Callable[[], None]
    end: Callable[[], None]


def order(control: Path, *orders: Mapping[str, object]) -> None:
    """Replace the orders."""
    draft = control.with_suffix(".tmp")
    draft.write_text(json.dumps(orders))
    draft.replace(control)


def disk_illness(kind: str, control: Path, archive: Path, sound: Path) -> Illness:
    """Return the illness of an archive on disk, given the folder where its files stay."""
    if kind == UNMOUNT:
        return Illness(lambda: unmount(archive), lambda: mount(sound, archive))
    ill = {"prefix": str(archive), "errno": ERRNOS[kind]}
    return Illness(lambda: order(control, ill), lambda: order(control))


def s3_illness(kind: str, control: Path, proxy: FaultProxy) -> Illness:
    """Return the illness of an S3 store behind a proxy."""
    if kind == NO_NAME:
        return Illness(lambda: order(control, {"host": HOST}), lambda: order(control))
    return Illness(lambda: proxy.refuse(*REFUSALS[kind]), lambda: proxy.refuse(None))


def mount(sound: Path, where: Path) -> None:
    """Mount a folder at an empty one; without the right to mount, a link stands for the mount."""
    where.mkdir(exist_ok=True)
    if not _run("mount", "--bind", sound, where):
        where.rmdir()
        where.symlink_to(sound)


def unmount(where: Path) -> None:
    """Unmount it, also if files are open: an empty folder stays."""
    if where.is_symlink():
        where.unlink()
        where.mkdir()
    elif not _run("umount", "--lazy", where):
        raise RuntimeError(f"{where} cannot be unmounted")


def _run(*command: object) -> bool:
    done = subprocess.run([*map(str, command)], capture_output=True, timeout=60, check=False)
    return done.returncode == 0
