"""Holding a lease: heartbeats, release and takeover."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from padim_dist.errors import DamagedFileError, HeldError, RunError, first_line
from padim_dist.events import Event, Listener
from padim_dist.redaction import redacted
from padim_dist.store.lease.holder import Holder
from padim_dist.store.numbered import list_numbers, numbered_file
from padim_dist.store.records import find_record
from padim_dist.store.workspace import Workspace

logger = logging.getLogger("padim_dist")
_PREFIX = "lease-"
_CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google"}
"""Packages whose errors are those of an object storage that cannot be used."""
_live: set[str] = set()
"""Tokens of the leases that this process holds, or is about to."""


@dataclass(frozen=True)
class Pace:
    """Seconds between two heartbeats, and seconds without one after which a lease is dead."""

    beat: float = 5.0
    expiry: float = 30.0


class Lease:
    """A held lease; `hold` makes it."""

    def __init__(
        self, workspace: Workspace, path: str, number: int, me: Holder, pace: Pace
    ) -> None:
        self._workspace, self._path, self._number = workspace, path, number
        self._me, self._pace = me, pace
        self._over, self._lost = threading.Event(), threading.Event()
        self._tried = threading.Event()  # to release it
        # Only this thread writes the file, so a late heartbeat never undoes the release.
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def file(self) -> str:
        """Path of its file in the workspace."""
        return _file(self._path, self._number)

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
        """Release the lease: the work is done, or has failed.

        If the storage fails, it is tried again until this process ends. Others wait for that;
        this process may hold the same lease again at once.
        """
        self._over.set()
        self._tried.wait(self._pace.expiry)
        _live.discard(self._me.token)

    def _keep(self) -> None:
        while not self._over.wait(self._pace.beat):
            self._me = replace(self._me, beats=self._me.beats + 1)
            with suppress(Exception):  # of any storage client: the next heartbeat may succeed
                if not self._write():
                    return
        self._me = replace(self._me, released=True)
        while True:
            try:
                self._write()
                return
            except Exception as error:
                if not self._tried.is_set():
                    name = self._workspace.at(_file(self._path, self._number))
                    logger.warning("lease %s is not released yet: %s", name, error)
            finally:
                self._tried.set()
            time.sleep(self._pace.beat)

    def _write(self) -> bool:
        """Write the file; return False if another process has taken the lease over."""
        if list_numbers(self._workspace, self._path, _PREFIX)[-1:] != [self._number]:
            self._lost.set()
            self._tried.set()
            return False
        self._workspace.folder.put_json(_file(self._path, self._number), asdict(self._me))
        return True


@contextmanager
def hold(workspace: Workspace, path: str, pace: Pace | None = None) -> Iterator[Lease]:
    """Hold the lease of a fit, run or night, given its folder, while working on it.

    Raises
    ------
    HeldError
        If another process, or another thread, holds it; the message says which, and since when.
    RunError
        If the client of an object storage fails in the block, with an error of its own.
    """
    pace, me = pace or Pace(), Holder.myself()
    _live.add(me.token)
    try:
        lease = Lease(workspace, path, _acquire(workspace, path, pace, me), me, pace)
    except BaseException:
        _live.discard(me.token)
        raise
    try:
        yield lease
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        reason = first_line(error).rstrip(".")
        raise RunError(
            f"{workspace.folder.url} cannot be used: {redacted(reason)}. Run the same command "
            "again when it can: it resumes"
        ) from error
    finally:
        lease.release()


def is_released(workspace: Workspace, path: str) -> bool:
    """Return whether the last lease of a folder was released; False if it cannot be read."""
    numbers = list_numbers(workspace, path, _PREFIX)
    holder = _read(workspace, path, numbers[-1]) if numbers else None
    return isinstance(holder, Holder) and holder.released


def _acquire(workspace: Workspace, path: str, pace: Pace, me: Holder) -> int:
    """Return the number of the lease that is now held."""
    while True:
        numbers = list_numbers(workspace, path, _PREFIX)
        if last := max(numbers, default=0):
            holder = _read(workspace, path, last)
            if isinstance(holder, Holder) and holder.token == me.token:
                # Mine, also if the response to the put was lost and the put was repeated.
                for number in numbers[:-1]:
                    workspace.folder.remove(_file(path, number))
                return last
            if holder is not None and not _is_over(workspace, path, last, holder, me, pace):
                raise HeldError(_refusal(workspace, path, last, holder, pace))
        workspace.folder.create_json(_file(path, last + 1), asdict(me))


def _is_over(
    workspace: Workspace,
    path: str,
    number: int,
    holder: Holder | DamagedFileError,
    me: Holder,
    pace: Pace,
) -> bool:
    """Return whether a lease is released or dead; watch one of another machine for a while."""
    if isinstance(holder, Holder):
        if holder.released or holder.is_of(me):
            return holder.released or holder.token not in _live
        if (gone := holder.is_gone(me.place)) is not None:
            return gone
    before, end = _content(workspace, path, number), time.monotonic() + pace.expiry
    while time.monotonic() < end:
        time.sleep(min(1.0, pace.beat / 2))
        now, seen = _content(workspace, path, number), _read(workspace, path, number)
        if seen is None or (isinstance(seen, Holder) and seen.released):
            return True
        if now != before:
            return False
    return True


def _refusal(
    workspace: Workspace, path: str, number: int, holder: Holder | DamagedFileError, pace: Pace
) -> str:
    """Return why a lease cannot be had."""
    if isinstance(holder, Holder):
        who = f"{holder.owner} has been at work on {workspace.at(path)} since {holder.since}"
    else:
        file = workspace.at(_file(path, number))
        who = f"{file} cannot be read ({holder.found}), and another process writes to it"
    return (
        f"{who}. Wait until it is done, or stop it; its lease is taken over after "
        f"{pace.expiry:.0f} s without a heartbeat"
    )


def _read(workspace: Workspace, path: str, number: int) -> Holder | DamagedFileError | None:
    """Return who holds a lease; what is wrong with its file; None if there is none."""
    try:
        return find_record(workspace.folder, _file(path, number), Holder)
    except DamagedFileError as error:
        return error


def _content(workspace: Workspace, path: str, number: int) -> bytes | None:
    with suppress(FileNotFoundError):
        return workspace.folder.read(_file(path, number))
    return None


def _file(path: str, number: int) -> str:
    return numbered_file(path, number, _PREFIX)
