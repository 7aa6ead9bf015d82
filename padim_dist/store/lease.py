"""Leases: one driver at a time works on a fit or a run.

A lease is a numbered file in the target's folder, ``lease-00001.json``, made with a put
that fails where there is one; its holder writes it anew every few seconds with a higher
count of beats. Whoever finds a lease that is over makes the next number, so of several
that find it so only one succeeds. No two clocks are compared: a lease of another machine
is dead when its count stays the same for a while, as seen by whoever waits; one of this
machine when its process is gone.

Leases save double work and surprises. They do not guard results: those are the same
whoever writes them.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import psutil

from padim_dist.errors import HeldError
from padim_dist.store.workspace import Workspace

Heard = TypeVar("Heard")


@dataclass(frozen=True)
class Pace:
    """Seconds between two beats, and without any until a lease counts as dead."""

    beat: float = 5.0
    expiry: float = 30.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: the content of its file.

    Attributes
    ----------
    owner : str
        User and machine, for people.
    place, process, process_began
        Machine (and its space of process numbers), number of the process and when it began.
    since : str
        ISO 8601, UTC.
    token : str
        Drawn at random.
    beats : int
        Signs of life so far.
    released : bool
        Whether its work is done.
    """

    owner: str
    place: str
    process: int
    process_began: float
    since: str
    token: str
    beats: int = 0
    released: bool = False

    @classmethod
    def myself(cls) -> Holder:
        """Stand for the process that calls."""
        host = socket.gethostname()
        try:
            space = os.readlink("/proc/self/ns/pid")  # containers may share a host's name
        except OSError:
            space = ""
        process = psutil.Process()
        return cls(
            owner=f"{user_and_host()}, process {process.pid}",
            place=f"{host} {space}",
            process=process.pid,
            process_began=process.create_time(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )

    def is_gone(self, place: str) -> bool | None:
        """Whether its process is gone; None where that cannot be seen from `place`."""
        if self.place != place:
            return None
        try:
            process = psutil.Process(self.process)
            # A dead one stays in the list until its parent asks, which some never do.
            is_dead = process.status() == psutil.STATUS_ZOMBIE
            return is_dead or bool(process.create_time() != self.process_began)
        except psutil.NoSuchProcess:
            return True


class Lease:
    """A lease that is held; made by `hold`."""

    def __init__(
        self, workspace: Workspace, path: str, number: int, me: Holder, pace: Pace
    ) -> None:
        self._workspace, self._path, self._number = workspace, path, number
        self._me, self._pace = me, pace
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def guard(self, listener: Callable[[Heard], None]) -> Callable[[Heard], None]:
        """A listener that ends the run, with a `HeldError`, once the lease is lost."""

        def listen(event: Heard) -> None:
            if self._lost.is_set():
                raise HeldError(
                    f"{self._workspace.at(self._path)} was taken over by somebody else, since this "
                    "process gave no sign of life for a while. Let the other one finish"
                )
            listener(event)

        return listen

    def release(self) -> None:
        """Say that the work is done, or given up."""
        self._over.set()
        self._thread.join()
        if not self._lost.is_set():
            me = replace(self._me, released=True)
            with suppress(Exception):  # a store that fails now: the lease dies by itself
                self._workspace.folder.put_json(_file(self._path, self._number), asdict(me))

    def _beat(self) -> None:
        while not self._over.wait(self._pace.beat):
            self._me = replace(self._me, beats=self._me.beats + 1)
            try:
                if _numbers(self._workspace, self._path)[-1:] != [self._number]:
                    self._lost.set()
                    return
                self._workspace.folder.put_json(_file(self._path, self._number), asdict(self._me))
            except Exception:  # whatever the store's client raises: the next beat may be heard
                continue


@contextmanager
def hold(workspace: Workspace, path: str, pace: Pace | None = None) -> Iterator[Lease]:
    """Hold the lease of a target while working on it.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    path : str
        Folder of the fit or run inside it.
    pace : Pace, optional
        Of the beats.

    Raises
    ------
    HeldError
        If somebody else holds it: says who, and since when.
    """
    pace = pace or Pace()
    lease = Lease(workspace, path, *_acquire(workspace, path, pace), pace)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(workspace: Workspace, path: str, pace: Pace) -> tuple[int, Holder]:
    me = Holder.myself()
    while True:
        numbers = _numbers(workspace, path)
        last = numbers[-1] if numbers else 0
        if last:
            holder = _read(workspace, path, last)
            if holder is None:
                continue  # removed at this moment, by the next one
            if holder.token == me.token:
                # Mine: also where the answer to the put was lost and it was sent again.
                for number in numbers[:-1]:
                    workspace.folder.remove(_file(path, number))
                return last, me
            if not _is_over(workspace, path, last, holder, me.place, pace):
                raise HeldError(
                    f"{holder.owner} has been at work on {workspace.at(path)} since "
                    f"{holder.since}. "
                    "Wait until it is done, or stop it; if it dies, its lease is taken over after "
                    f"{pace.expiry:.0f} s without a sign of life"
                )
        workspace.folder.create_json(_file(path, last + 1), asdict(me))


def _is_over(
    workspace: Workspace, path: str, number: int, holder: Holder, place: str, pace: Pace
) -> bool:
    """Whether a lease is released or dead; watches it for a while where that cannot be seen."""
    gone = holder.is_gone(place)
    if holder.released or gone is not None:
        return holder.released or bool(gone)
    end = time.monotonic() + pace.expiry
    while time.monotonic() < end:
        time.sleep(min(1.0, pace.beat / 2))
        seen = _read(workspace, path, number)
        if seen is None or seen.released:
            return True
        if seen.beats != holder.beats:
            return False
    return True


def user_and_host() -> str:
    """Who runs this process, and where, for people."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number alone
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _read(workspace: Workspace, path: str, number: int) -> Holder | None:
    values = workspace.folder.find_json(_file(path, number))
    return Holder(**values) if values else None


def _numbers(workspace: Workspace, path: str) -> list[int]:
    """Numbers of the leases that are there, in order."""
    names = (name for name in workspace.folder.list(path) if name.startswith("lease-"))
    return sorted(int(name[6:-5]) for name in names)


def _file(path: str, number: int) -> str:
    return f"{path}/lease-{number:05d}.json"
