"""Leases: one driver at a time works on a fit or a run.

A lease is a numbered file in the folder of the fit or run, ``lease-00001.json``. It is created with
a put that fails if the file exists. Its holder rewrites it every few seconds with a higher count of
heartbeats. A driver that finds a released or dead lease creates the next number, so only one driver
gets it. A lease of this machine is dead when its process is gone. A lease of another machine is
dead when its count does not change for a while: clocks of two machines are never compared.
Leases prevent double work. Results do not depend on them: every driver writes the same.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import psutil

from padim_dist.errors import HeldError
from padim_dist.events import Event, Listener
from padim_dist.store.workspace import Workspace


@dataclass(frozen=True)
class Pace:
    """Seconds between two heartbeats, and seconds without one after which a lease is dead."""

    beat: float = 5.0
    expiry: float = 30.0


@dataclass(frozen=True)
class Holder:
    """The holder of a lease: the content of its file.

    Attributes
    ----------
    owner, since : str
        User, machine and process, for people; ISO 8601, UTC.
    place, process, process_began
        Machine (and its process namespace), process id, and start time of the process.
    token : str
        Random; identifies the holder.
    beats, released : int, bool
        Heartbeats so far; whether its work is done.
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
        """Return a holder for this process."""
        try:
            space = os.readlink("/proc/self/ns/pid")  # containers may share a host name
        except OSError:
            space = ""
        process = psutil.Process()
        return cls(
            owner=f"{user_and_host()}, process {process.pid}",
            place=f"{socket.gethostname()} {space}",
            process=process.pid,
            process_began=process.create_time(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )

    def is_gone(self, place: str) -> bool | None:
        """Return whether its process is gone; None if it runs elsewhere than `place`."""
        if self.place != place:
            return None
        try:
            process = psutil.Process(self.process)
            # A dead process stays in the list until its parent waits for it.
            is_dead = process.status() == psutil.STATUS_ZOMBIE
            return is_dead or bool(process.create_time() != self.process_began)
        except psutil.NoSuchProcess:
            return True


class Lease:
    """A held lease; `hold` makes it."""

    def __init__(
        self, workspace: Workspace, path: str, number: int, me: Holder, pace: Pace
    ) -> None:
        self._workspace, self._path, self._number = workspace, path, number
        self._me, self._pace = me, pace
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def guard(self, listener: Listener) -> Listener:
        """Wrap a listener so that it raises `HeldError` once the lease is lost."""

        def listen(event: Event) -> None:
            if self._lost.is_set():
                raise HeldError(
                    f"{self._workspace.at(self._path)} was taken over by another process because "
                    "this one sent no heartbeat for a while. Let the other one finish"
                )
            listener(event)

        return listen

    def release(self) -> None:
        """Release the lease: the work is done, or has failed."""
        self._over.set()
        self._thread.join()
        if not self._lost.is_set():
            me = replace(self._me, released=True)
            with suppress(Exception):  # if the storage fails, the lease expires
                self._workspace.folder.put_json(_file(self._path, self._number), asdict(me))

    def _beat(self) -> None:
        while not self._over.wait(self._pace.beat):
            self._me = replace(self._me, beats=self._me.beats + 1)
            with suppress(Exception):  # of any storage client: the next heartbeat may succeed
                if _numbers(self._workspace, self._path)[-1:] != [self._number]:
                    self._lost.set()
                    return
                self._workspace.folder.put_json(_file(self._path, self._number), asdict(self._me))


@contextmanager
def hold(workspace: Workspace, path: str, pace: Pace | None = None) -> Iterator[Lease]:
    """Hold the lease of a fit, run or night, given its folder, while working on it.

    Raises
    ------
    HeldError
        If another process holds it; the message says which, and since when.
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
        if last := max(numbers, default=0):
            holder = _read(workspace, path, last)
            if holder is None:
                continue  # removed in the meantime by the next holder
            if holder.token == me.token:
                # Mine, also if the response to the put was lost and the put was repeated.
                for number in numbers[:-1]:
                    workspace.folder.remove(_file(path, number))
                return last, me
            if not _is_over(workspace, path, last, holder, me.place, pace):
                raise HeldError(
                    f"{holder.owner} has been at work on {workspace.at(path)} since "
                    f"{holder.since}. Wait until it is done, or stop it; its lease is taken over "
                    f"after {pace.expiry:.0f} s without a heartbeat"
                )
        workspace.folder.create_json(_file(path, last + 1), asdict(me))


def _is_over(
    workspace: Workspace, path: str, number: int, holder: Holder, place: str, pace: Pace
) -> bool:
    """Return whether a lease is released or dead; watch one of another machine for a while."""
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
    """Return the user and the host of this process, for people."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user in a container may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _read(workspace: Workspace, path: str, number: int) -> Holder | None:
    values = workspace.folder.find_json(_file(path, number))
    return Holder(**values) if values else None


def _numbers(workspace: Workspace, path: str) -> list[int]:
    names = (name for name in workspace.folder.list(path) if name.startswith("lease-"))
    return sorted(int(name[6:-5]) for name in names)


def _file(path: str, number: int) -> str:
    return f"{path}/lease-{number:05d}.json"
