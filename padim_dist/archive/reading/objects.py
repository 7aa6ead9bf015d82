"""Fetching objects of an archive, or ranges of them.

There are three kinds of failures. A failure of one image (missing, changed, forbidden) is an
`ImageError` and becomes its row. A temporary failure (a busy store, a reset, a short body) is
retried with growing, random delays. A lasting failure of the store ends the run with an error: an
outage must never look like ten thousand unreadable images.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from dataclasses import dataclass

from padim_dist.archive.addresses import present_path
from padim_dist.archive.reading.requests import Request
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Body, Folder, Options
from padim_dist.telemetry.measures import count_read, count_request_retry

# Error codes that concern the credentials or the clock, not one object.
_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
# Errors of a disk or network share as a whole, not of one file.
_PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}


@dataclass(frozen=True)
class RetryPolicy:
    """Retries with growing, random delays.

    Attributes
    ----------
    attempts : int
        Maximum number of attempts.
    first, most : float
        Upper bound of the first delay, which doubles with each failure, and its maximum, in
        seconds.
    timeout : float
        Timeout of an attempt in seconds.
    limit : float
        Timeout of all attempts and delays together, in seconds.
    """

    attempts: int = 7
    first: float = 0.2
    most: float = 10.0
    timeout: float = 60.0
    limit: float = 300.0

    def delay(self, failures: int, draw: float) -> float | None:
        """Return the seconds to wait after a failure; None to give up.

        Parameters
        ----------
        failures : int
            Number of failures so far, at least 1.
        draw : float
            Random number in [0, 1), so that clients that failed together retry at different times.

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
    """Fetcher of objects by manifest row.

    Parameters
    ----------
    options : mapping
        fsspec options by protocol.
    archive : str
        URL of the archive. If a local archive is gone, the run fails instead of every image.
    retry : RetryPolicy
        Retries of temporary failures.
    moved : tuple of str
        Where the archive was, None if it has not moved, and where it is.
    """

    options: Options
    archive: str = ""
    retry: RetryPolicy = RetryPolicy()
    moved: tuple[str | None, str] = (None, "")

    def fetch(self, request: Request) -> list[bytes]:
        """Return the bytes of each row of a request, from the same object that was indexed.

        Raises
        ------
        ImageError
            With the status ``missing``, ``changed`` or ``unreadable``.
        RunError
            If the store keeps failing, exceeds the policy's limit, or memory runs out.
        """
        end = time.monotonic() + self.retry.limit
        failures = 0
        bodies: list[str] = []  # digests of bodies that differ from the store's checksum
        while True:
            timeout = max(0.001, min(self.retry.timeout, end - time.monotonic()))
            try:
                return request.cut(self._read(request, timeout, bodies))
            except (ImageError, RunError):
                raise
            except MemoryError as error:
                raise RunError(
                    f"this worker ran out of memory for the {request.size} bytes of "
                    f"{request.uri}. Lower cluster.workers or model.batch, then run the same "
                    "command again: it resumes"
                ) from error
            except Exception as error:  # HTTP clients raise errors of any class
                failures += 1
                delay = self.retry.delay(failures, random.random())
                if delay is None or delay >= end - time.monotonic():
                    reason = f"{type(error).__name__}: {error}"
                    raise RunError(
                        f"the store of {request.uri} failed {failures} times in a row ({reason}). "
                        "Run the same command again when the store works: it resumes"
                    ) from error
                count_request_retry()
                time.sleep(delay)

    def _read(self, request: Request, timeout: float, bodies: list[str]) -> bytes:
        """Attempt a request once; errors other than ImageError and RunError are temporary."""
        url, _, name = present_path(request.uri, *self.moved).rpartition("/")
        folder = Folder(url or "/", self.options)
        try:
            body = folder.read_body(name, request.start, request.stop, timeout)
        except FileNotFoundError:
            if folder.is_local and self.archive and not os.path.exists(self.archive):
                raise RunError(
                    f"the archive {self.archive} does not exist (any more). Run the same command "
                    "again when it does: it resumes"
                ) from None
            raise ImageError("missing", "the object of the manifest does not exist") from None
        except OSError as error:
            if _is_of_the_store(error, folder.url):
                raise
            raise ImageError("unreadable", f"cannot be read: {error.strerror or error}") from None
        etag = request.rows[0].etag
        if etag is not None and body.tag is not None and body.tag != etag:
            raise ImageError(
                "changed",
                f"the object is not that of the manifest (etag {body.tag} instead of {etag}); "
                "index the archive again",
            )
        if request.size and len(body.data) != request.size:
            raise ConnectionError(f"the body has {len(body.data)} bytes instead of {request.size}")
        _check(body, bodies)
        count_read(len(body.data))
        return body.data


def _check(body: Body, bodies: list[str]) -> None:
    """Compare a body with the checksum of the store.

    Some stores' etags look like an MD5 but are none, so a second equal body in a row is accepted.
    """
    if body.md5 is None:
        return
    digest = hashlib.md5(body.data, usedforsecurity=False).hexdigest()
    if digest not in (body.md5, *bodies[-1:]):
        bodies.append(digest)
        raise ConnectionError(f"the body has MD5 {digest} instead of {body.md5}")


def _is_of_the_store(error: OSError, uri: str) -> bool:
    """Return whether an error concerns the store, and is retried, or only this object.

    A read error of a disk mostly concerns the file. An error of a remote store is mostly
    temporary, unless it forbids the object.

    Raises
    ------
    RunError
        If the credentials are refused: a retry would not help.
    ImageError
        If the requested range does not exist (any more).
    """
    if "://" not in uri:
        return error.errno in _PASSING
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
    if code == "InvalidRange":
        raise ImageError("changed", "the object is shorter than indexed; index the archive again")
    if code in _CREDENTIALS:
        raise RunError(f"the store of {uri} refuses the credentials: {error}") from error
    return not isinstance(error, PermissionError)
