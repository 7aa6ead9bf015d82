"""Fetching one object of an archive: its bytes, a reason why not, or a failed run.

Three kinds of trouble are kept apart. What concerns one image (missing, changed,
forbidden) is an `ImageError` and becomes its row. What passes (a busy store, a reset,
a short body) is tried again with growing, random delays. What stays wrong with the
store itself ends the run with an error: an outage must never look like ten thousand
unreadable images.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Folder, Options

# Refusals that speak of the credentials or the clock, not of one object.
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
# What a disk or share answers when it is the one in trouble, not the file.
_PASSING = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    }
)


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    Attributes
    ----------
    attempts : int
        In all.
    first, most : float
        Seconds: the range of the first delay, and the most that it grows to by doubling.
    """

    attempts: int = 7
    first: float = 0.2
    most: float = 10.0

    def delay(self, failures: int, draw: float) -> float | None:
        """Seconds to wait after so many failures; None to give up.

        Parameters
        ----------
        failures : int
            So far, at least 1.
        draw : float
            Uniform in [0, 1): clients that failed together do not come back together.

        Examples
        --------
        >>> [RetryPolicy(attempts=4).delay(n, 0.5) for n in (1, 2, 3, 4)]
        [0.1, 0.2, 0.4, None]
        """
        if failures >= self.attempts:
            return None
        return draw * float(min(self.most, self.first * 2 ** (failures - 1)))


@dataclass(frozen=True)
class ObjectFetcher:
    """Fetches objects by manifest row.

    Parameters
    ----------
    options : mapping
        fsspec options by protocol.
    archive : str
        URL of the archive: if a local one is gone as a whole, that is no missing image.
    retry : RetryPolicy
        For what passes.
    """

    options: Options
    archive: str = ""
    retry: RetryPolicy = RetryPolicy()

    def fetch(self, row: dict[str, Any]) -> bytes:
        """Bytes of a manifest row: the very object that was indexed.

        Raises
        ------
        ImageError
            With the status ``missing``, ``changed`` or ``unreadable``.
        RunError
            If the store keeps failing.
        """
        return self._patiently(lambda: self._read(row), row["uri"])

    def _read(self, row: dict[str, Any]) -> bytes:
        """One attempt; what is neither an ImageError nor a RunError may pass."""
        url, _, name = row["uri"].rpartition("/")
        folder = Folder(url or "/", self.options)
        try:
            data, tag = folder.read_tagged(name)
        except FileNotFoundError:
            if folder.is_local and self.archive and not os.path.exists(self.archive):
                raise RunError(
                    f"the archive {self.archive} is not there (any more). Run the same command "
                    "again when it is: it resumes"
                ) from None
            raise ImageError("missing", "the object of the manifest is not there") from None
        except OSError as error:
            if _is_of_the_store(error, folder.url):
                raise
            raise ImageError("unreadable", f"cannot be read: {error.strerror or error}") from None
        _compare(tag, row)
        if row["size"] and len(data) != row["size"]:
            raise ConnectionError(f"{len(data)} bytes came instead of {row['size']}")
        return data

    def _patiently(self, read: Callable[[], bytes], uri: str) -> bytes:
        failures = 0
        while True:
            try:
                return read()
            except (ImageError, RunError):
                raise
            except Exception as error:  # HTTP clients raise what they like
                failures += 1
                delay = self.retry.delay(failures, random.random())
                if delay is None:
                    reason = f"{type(error).__name__}: {error}"
                    raise RunError(
                        f"the store of {uri} failed {failures} times in a row ({reason}). Run the "
                        "same command again when it is well: it resumes"
                    ) from error
                time.sleep(delay)


def _is_of_the_store(error: OSError, uri: str) -> bool:
    """Whether an error is trouble of the store, to be tried again, or of this one object.

    A disk that cannot read a file most often has a bad file; a remote store that does
    not forbid an object is most often busy.

    Raises
    ------
    RunError
        If the credentials are refused: trying again would not help.
    """
    if "://" not in uri:
        return error.errno in _PASSING
    response = getattr(error.__cause__, "response", {})
    if response.get("Error", {}).get("Code") in _CREDENTIALS:
        raise RunError(f"the store of {uri} refuses the credentials: {error}") from error
    return not isinstance(error, PermissionError)


def _compare(tag: str | None, row: dict[str, Any]) -> None:
    if row["etag"] is not None and tag is not None and tag != row["etag"]:
        raise ImageError(
            "changed",
            f"the object is not the one of the manifest (etag {tag} instead of {row['etag']}); "
            "index the archive again",
        )
