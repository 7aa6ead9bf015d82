"""Fetching an object of an archive, or a range of it: its bytes, a reason why not, or a failed run.

Three kinds of trouble are kept apart. What concerns one image (missing, changed,
forbidden) is an `ImageError` and becomes its row. What passes (a busy store, a reset,
a short body) is tried again with growing, random delays. What stays wrong with the
store itself ends the run with an error: an outage must never look like ten thousand
unreadable images.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
from dataclasses import dataclass

from padim_dist.archive.reading.requests import Request
from padim_dist.archive.rows import ImageRow
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Body, Folder, Options
from padim_dist.telemetry.measures import count_read, count_request_retry

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
    timeout : float
        Seconds that an attempt may take.
    limit : float
        Seconds for the object, all attempts and delays together.
    """

    attempts: int = 7
    first: float = 0.2
    most: float = 10.0
    timeout: float = 60.0
    limit: float = 300.0

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

    def fetch(self, request: Request) -> list[bytes]:
        """Bytes of each row of a request: of the very object that was indexed.

        Raises
        ------
        ImageError
            With the status ``missing``, ``changed`` or ``unreadable``.
        RunError
            If the store keeps failing, or takes longer than the policy's limit; or if the
            memory does not suffice.
        """
        end = time.monotonic() + self.retry.limit
        failures = 0
        bodies: list[str] = []  # digests of bodies that are not what the store says
        while True:
            try:
                return request.cut(self._read(request, self._left(end), bodies))
            except (ImageError, RunError):
                raise
            except MemoryError as error:
                raise RunError(
                    f"no memory is left in this worker for the {request.size} bytes of "
                    f"{request.uri}. Lower cluster.workers or model.batch, then run the same "
                    "command again: it resumes"
                ) from error
            except Exception as error:  # HTTP clients raise what they like
                failures += 1
                delay = self.retry.delay(failures, random.random())
                if delay is None or delay >= end - time.monotonic():
                    reason = f"{type(error).__name__}: {error}"
                    raise RunError(
                        f"the store of {request.uri} failed {failures} times in a row ({reason}). "
                        "Run the same command again when it is well: it resumes"
                    ) from error
                count_request_retry()
                time.sleep(delay)

    def _left(self, end: float) -> float:
        """Seconds for the next attempt."""
        return max(0.001, min(self.retry.timeout, end - time.monotonic()))

    def _read(self, request: Request, timeout: float, bodies: list[str]) -> bytes:
        """One attempt; what is neither an ImageError nor a RunError may pass."""
        url, _, name = request.uri.rpartition("/")
        folder = Folder(url or "/", self.options)
        try:
            body = folder.read_body(name, request.start, request.stop, timeout)
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
        _compare(body.tag, request.rows[0])
        if request.size and len(body.data) != request.size:
            raise ConnectionError(f"{len(body.data)} bytes came instead of {request.size}")
        _check(body, bodies)
        count_read(len(body.data))
        return body.data


def _check(body: Body, bodies: list[str]) -> None:
    """Compare a body with the checksum of the store.

    Some stores' etags look like an MD5 and are none: of two bodies in a row that are the
    same, the second is believed.
    """
    if body.md5 is None:
        return
    digest = hashlib.md5(body.data, usedforsecurity=False).hexdigest()
    if digest not in (body.md5, *bodies[-1:]):
        bodies.append(digest)
        raise ConnectionError(f"a body came with MD5 {digest} instead of {body.md5}")


def _is_of_the_store(error: OSError, uri: str) -> bool:
    """Whether an error is trouble of the store, to be tried again, or of this one object.

    A disk that cannot read a file most often has a bad file; a remote store that does
    not forbid an object is most often busy.

    Raises
    ------
    RunError
        If the credentials are refused: trying again would not help.
    ImageError
        If the range that was asked for is not there (any more).
    """
    if "://" not in uri:
        return error.errno in _PASSING
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
    if code == "InvalidRange":
        raise ImageError("changed", "the object is shorter than in the manifest; index it again")
    if code in _CREDENTIALS:
        raise RunError(f"the store of {uri} refuses the credentials: {error}") from error
    return not isinstance(error, PermissionError)


def _compare(tag: str | None, row: ImageRow) -> None:
    if row.etag is not None and tag is not None and tag != row.etag:
        raise ImageError(
            "changed",
            f"the object is not the one of the manifest (etag {tag} instead of {row.etag}); "
            "index the archive again",
        )
