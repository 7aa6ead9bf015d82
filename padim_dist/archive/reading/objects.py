"""Fetching objects of an archive, or ranges of them.

A fault that mostly passes (a busy store, a reset, a short body) is retried with growing, random
delays. When retries do not help, the witness tells whose fault it is. If the store is well, it is
the object's: an `ImageError`, which becomes its row. If the store is ill, the run ends with a
`RunError`, and resumes: an outage must never look like ten thousand bad images.
"""

from __future__ import annotations

import hashlib
import random
import time
from dataclasses import dataclass, replace

from padim_dist.archive.addresses import present_path
from padim_dist.archive.reading.faults import check_code, image_error, is_passing, reason_of
from padim_dist.archive.reading.requests import Request
from padim_dist.archive.reading.threads import timed_part
from padim_dist.archive.reading.witness import Witness
from padim_dist.bodies import Body
from padim_dist.core.status import CHANGED
from padim_dist.errors import ImageError, RunError
from padim_dist.storage import Folder, Options
from padim_dist.telemetry.measures import count_read, count_request_retry

_DOUBTS = 2
"""Times that an object fails while its store is well, until it is the object's fault."""
_MOST_DEADLINES = 5
"""Deadlines after which an ill store is given up, however few attempts there were."""


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
    """

    attempts: int = 7
    first: float = 0.2
    most: float = 10.0

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
        URL of the archive.
    deadline : float
        Seconds that an attempt may take: ``archive.read_deadline``.
    witnesses : tuple of str
        Objects of the archive, for the question whose fault a failure is.
    retry : RetryPolicy
        Retries of temporary failures.
    moved : tuple of str
        Where the archive was, None if it has not moved, and where it is.
    """

    options: Options
    archive: str = ""
    deadline: float = 60.0
    witnesses: tuple[str, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    moved: tuple[str | None, str] = (None, "")

    @property
    def witness(self) -> Witness:
        """Judge of the store's health."""
        return Witness(self.archive, self.options, self.deadline, self.witnesses)

    def fetch(self, request: Request) -> list[bytes]:
        """Return the bytes of each row of a request, from the same object that was indexed.

        Raises
        ------
        ImageError
            With the status ``missing``, ``changed``, ``unavailable`` or ``timeout``.
        RunError
            If the store is ill, or memory runs out.
        """
        request = self._present(request)
        end = time.monotonic() + _MOST_DEADLINES * self.deadline
        failures, doubts = 0, 0
        bodies: list[str] = []  # digests of bodies that differ from the store's checksum
        while True:
            try:
                data = request.cut(self._read(request, bodies))
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
                is_over = time.monotonic() > end
                delay = None if is_over else self.retry.delay(failures, random.random())
                is_late = isinstance(error, TimeoutError)
                if is_late or delay is None or not is_passing(error, "://" not in request.uri):
                    illness = self.witness.find_illness(request.uri)
                    doubts += illness is None
                    if illness is None and (is_late or delay is None or doubts >= _DOUBTS):
                        raise image_error(error) from None
                    if illness is None:
                        continue
                    if delay is None:
                        raise _ill(request, error, illness) from error
                assert delay is not None
                count_request_retry()
                time.sleep(delay)
            else:
                self.witness.saw(request.uri)
                return data

    def give_up(self, request: Request) -> ImageError:
        """Return the error of a read that exceeded its deadline and cannot be ended.

        Raises
        ------
        RunError
            If the store is ill.
        """
        late = TimeoutError("no answer")
        if illness := self.witness.find_illness(self._present(request).uri):
            raise _ill(request, late, illness)
        return image_error(late)

    def _present(self, request: Request) -> Request:
        """Return a request for the place where the object is now, local ones by their path."""
        return replace(request, uri=present_path(request.uri, *self.moved))

    def _read(self, request: Request, bodies: list[str]) -> bytes:
        """Attempt a request once; errors other than ImageError and RunError may be the store's."""
        url, _, name = request.uri.rpartition("/")
        folder = Folder(url or "/", self.options)
        try:
            with timed_part():
                body = folder.read_body(name, request.start, request.stop, self.deadline)
        except OSError as error:
            check_code(error, request.uri)
            raise
        etag = request.rows[0].etag
        if etag is not None and body.tag is not None and body.tag != etag:
            raise ImageError(
                CHANGED,
                f"the object is not that of the manifest (etag {body.tag} instead of {etag}); "
                "index the archive again",
            )
        if request.size and len(body.data) != request.size:
            raise ConnectionError(f"the body has {len(body.data)} bytes instead of {request.size}")
        _check(body, bodies)
        count_read(len(body.data))
        return body.data


def _ill(request: Request, error: Exception, illness: str) -> RunError:
    return RunError(
        f"{request.uri} cannot be read ({reason_of(error)}), and its store is ill: {illness}. Run "
        "the same command again when the store works: it resumes"
    )


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
