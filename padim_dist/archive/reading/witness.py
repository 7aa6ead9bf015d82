"""Whether a store is well: others are asked when one object fails.

The witnesses are objects that this process has read, and objects from all over the manifest. If
none of them can be read, the store is ill, and no image is blamed. If all of them are missing, they
may have been deleted: the archive's root decides.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from padim_dist.archive.reading.faults import reason_of
from padim_dist.archive.reading.threads import OverdueError, timed_part, within
from padim_dist.storage import Folder, Options

_SEEN = 3
_seen: dict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=_SEEN))
"""Objects that this process has read last, by archive and store."""
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
        with _lock:
            seen = _seen[self.archive, _store_of(uri)]
            if uri not in seen:
                seen.append(uri)

    def find_illness(self, uri: str) -> str | None:
        """Return why the store is ill; None if it is well, so that a fault of `uri` is its own."""
        store = _store_of(uri)
        with _lock:
            seen = [*reversed(_seen[self.archive, store])]
        errors: dict[str, Exception] = {}
        others = [other for other in self.others if _store_of(other) == store]
        for other in dict.fromkeys([*seen, *others]):
            if other != uri and (error := self._ask(other)):
                errors[other] = error
            elif other != uri:
                return None
        # All may have been deleted, but not all be forbidden or damaged.
        if all(isinstance(error, FileNotFoundError) for error in errors.values()):
            is_inside = _store_of(self.archive) == store
            root = self.archive if is_inside or not self.archive else store
            errors = {root: error} if root and (error := self._ask_root(root)) else {}
        return next((f"{a} cannot be read either: {reason_of(e)}" for a, e in errors.items()), None)

    def _ask_root(self, root: str) -> Exception | None:
        return self._ask_within(lambda: Folder(root, self.options).check_there(self.deadline))

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


def _store_of(uri: str) -> str:
    """Return what fails as one: a bucket or host, or the local disks (``""``).

    Examples
    --------
    >>> _store_of("s3://photos/a/b.jpg"), _store_of("/data/b.jpg")
    ('s3://photos', '')
    """
    scheme, found, rest = uri.partition("://")
    return f"{scheme}://{rest.split('/')[0]}" if found else ""
