"""The holder of a lease: a process, and how to tell whether it is still there."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Holder:
    """The holder of a lease: the content of its file.

    Attributes
    ----------
    owner, since : str
        User, machine and process, for people; ISO 8601, UTC.
    place, process, process_began
        Machine, its process namespace and its boot; process id; start of the process, see `began`.
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
        process = os.getpid()
        return cls(
            owner=f"{user_and_host()}, process {process}",
            # A lease of version 0.2 has no boot, so its place is always another one.
            place=f"{socket.gethostname()} {space} {_boot()}".rstrip(),
            process=process,
            process_began=began(process),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )

    def is_gone(self, place: str) -> bool | None:
        """Return whether its process is gone; None if it runs elsewhere than `place`."""
        if self.place != place:
            return None
        try:
            # A dead process stays in the list until its parent waits for it.
            is_dead = psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
            return is_dead or began(self.process) != self.process_began
        except psutil.NoSuchProcess:
            return True

    def is_of(self, me: Holder) -> bool:
        """Return whether it belongs to the same process as `me`."""
        mine = (me.place, me.process, me.process_began)
        return (self.place, self.process, self.process_began) == mine


def began(process: int) -> float:
    """Return the start of a process: on Linux in ticks of the kernel since its boot.

    The time of day at which it started, elsewhere, moves when the clock is set.

    Raises
    ------
    psutil.NoSuchProcess
        If there is no such process.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
        return float(stat.rpartition(")")[2].split()[19])  # the name before may contain anything
    except (OSError, ValueError, IndexError):
        return psutil.Process(process).create_time()


def _boot() -> str:
    """Return a random id of this start of the machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def user_and_host() -> str:
    """Return the user and the host of this process, for people."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user in a container may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
