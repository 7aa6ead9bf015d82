"""Whether a store is well: others are asked when one object fails.

The witnesses are the archive's root, objects that this process has read, and, before the first of
them, objects from all over the manifest. If none of them can be read, the store is ill, and no
image is blamed.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from padim_dist.archive.reading.faults import reason_of
from padim_dist.archive.reading.threads import OverdueError, timed_part, within
from padim_dist.storage import Folder, Options

_SEEN = 3
_MOST_TIMEOUTS = 8
"""Most reads that may exceed the deadline one after the other while the store counts as well."""


@dataclass
class _Known:
    """What this process knows about the objects of an archive, by uri."""

    seen: deque[str] = field(default_factory=lambda: deque(maxlen=_SEEN))
    timeouts: int = 0


_known: dict[str, _Known] = defaultdict(_Known)
_lock = threading.Lock()


@dataclass(frozen=True)
class Witness:
    """Judge of a store's health, for one process.

    Parameters
    ----------
    archive : str
        URL of the archive; empty if there is no root to ask.
    options : mapping
        fsspec options by protocol.
    deadline : float
        Seconds after which a witness that does not answer counts as failed.
    others : tuple of str
        Objects of the manifest, from all over the archive.
    """

    archive: str
    options: Options
    deadline: float
    others: tuple[str, ...] = ()

    def saw(self, uri: str) -> None:
        """Note that an object was read."""
        known = _known[self.archive]
        known.timeouts = 0
        if not known.seen or known.seen[-1] != uri:
            with _lock:
                known.seen.append(uri)

    def timed_out(self) -> None:
        """Note that a read exceeded its deadline."""
        _known[self.archive].timeouts += 1

    def find_illness(self, uri: str) -> str | None:
        """Return why the store is ill; None if it is well, so that a fault of `uri` is its own."""
        known = _known[self.archive]
        if known.timeouts > _MOST_TIMEOUTS:
            return f"{known.timeouts} reads in a row took longer than archive.read_deadline"
        if self.archive and (error := self._ask_root()):
            return f"the archive {self.archive} cannot be read either: {reason_of(error)}"
        with _lock:
            seen = [other for other in known.seen if other != uri]
        asked: dict[str, Exception] = {}
        for other in [*reversed(seen)] or [other for other in self.others if other != uri]:
            if (error := self._ask(other)) is None:
                return None
            asked[other] = error
        # Objects that were never read may all have been deleted, but not all be forbidden.
        gone = any(isinstance(error, FileNotFoundError) for error in asked.values())
        if not asked or (gone and not seen):
            return None
        other, error = next(iter(asked.items()))
        return f"{other} cannot be read either: {reason_of(error)}"

    def _ask_root(self) -> Exception | None:
        return self._ask_within(
            lambda: Folder(self.archive, self.options).check_there(self.deadline)
        )

    def _ask(self, uri: str) -> Exception | None:
        """Return why an object cannot be read; None if it can."""
        url, _, name = uri.rpartition("/")
        folder = Folder(url or "/", self.options)
        return self._ask_within(lambda: folder.read_body(name, 0, 1, self.deadline))

    def _ask_within(self, work: Callable[[], object]) -> Exception | None:
        def timed() -> None:
            with timed_part():
                work()

        try:
            within(self.deadline, timed)
        except OverdueError:
            return TimeoutError("no answer")
        except Exception as error:
            return error
        return None
