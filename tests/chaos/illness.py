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
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from distributed import Client

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
def orders_obeyed(control: Path, client: Client | None = None) -> Iterator[None]:
    """Let this process obey the orders in a file: also those that it starts, or a client's."""
    added = {} if client else {"PADIM_TESTS_ILL": str(control), "PYTHONPATH": str(SITE)}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    obey(str(control))
    if client:
        client.run(obey, str(control))
    try:
        yield
    finally:
        be_free()
        if client:
            client.run(be_free)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def obey(control: str) -> None:
    """Obey the orders in a file from now on."""
    _site().obey(control)


def be_free() -> None:
    """Obey no orders."""
    _site().be_free()


def _site() -> Any:
    name = "tests_chaos_site"
    if name not in sys.modules:
        spec = spec_from_file_location(name, SITE / "sitecustomize.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


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
