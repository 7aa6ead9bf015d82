"""Reads of S3 objects: by obstore where it is sure to do the same as s3fs, else by s3fs.

obstore takes a third of the processor time. s3fs has the last word: it reads the first object of
a bucket, and whatever obstore cannot read, or reads with another MD5 than the etag. So errors, and
what they mean, are those of s3fs.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AsyncFileSystem, sync

from padim_dist.bodies import Body, object_tag
from padim_dist.redaction import redacted
from padim_dist.s3.client import open_store

if TYPE_CHECKING:
    from obstore.store import S3Store

logger = logging.getLogger("padim_dist")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!--x-s3)")
"""Names of ordinary buckets: no access points, tenants or directory buckets."""
_MOST_FAILURES, _REST = 3, 300.0
"""Reads in a row that only s3fs can do, until obstore rests, and the seconds of the rest."""
_PATIENCE = 0.25
"""Share of the deadline that obstore may wait for a next piece; the rest is left to s3fs."""


def read_object(
    fs: AsyncFileSystem, url: str, start: int | None, stop: int | None, timeout: float | None
) -> Body:
    """Read an object of S3, or a range of it; one request, if all goes well.

    Raises
    ------
    FileNotFoundError
        If there is none.
    TimeoutError
        If it takes longer than `timeout` seconds.
    """
    bucket, key, version = fs.split_path(url)
    began, lane = time.monotonic(), None
    # obstore takes slashes at the ends of a key away.
    is_ordinary = version is None and key.strip("/") == key and _BUCKET.fullmatch(bucket)
    if timeout and is_ordinary and not _is_interruptible():
        lane = _lane(fs, bucket, timeout)
    failure, is_counted = None, False
    if lane and lane.is_ready():
        try:
            return lane.read(key, start, stop)
        except MemoryError:
            raise
        except ValueError:  # a name that obstore refuses, as it would any time
            pass
        except Exception as error:  # s3fs tells what it means
            failure = error.with_traceback(None)  # which would keep the body
        # A wait is a failure whatever s3fs says: it may have too little time left.
        is_counted = failure is not None and time.monotonic() - began >= lane.patience
        if failure and is_counted:
            lane.count(failure)
    left = timeout and timeout - (time.monotonic() - began)
    if left is not None and left <= 0:
        raise TimeoutError from failure
    body: Body = sync(fs.loop, _get, fs, bucket, key, start, stop, timeout=left)
    if lane:
        lane.open(fs)
        if failure and not is_counted:
            lane.count(failure)
    return body


def _is_interruptible() -> bool:
    """Return whether Ctrl-C has to end this thread's read, which obstore would go on with."""
    return threading.current_thread() is threading.main_thread()


class _Lane:
    """Reads of one bucket by obstore, with one deadline."""

    def __init__(self, bucket: str, timeout: float) -> None:
        self._bucket, self._timeout = bucket, timeout
        self.patience = _PATIENCE * timeout
        self._store: S3Store | None = None
        self._is_open = False
        self._failures, self._rests_until = 0, 0.0
        self._lock = threading.Lock()

    def is_ready(self) -> bool:
        """Return whether obstore may read: s3fs has read an object, and obstore does not rest."""
        return self._store is not None and time.monotonic() >= self._rests_until

    def read(self, key: str, start: int | None, stop: int | None) -> Body:
        """Read an object, or a range of it, and check its MD5; errors of any class.

        Raises
        ------
        ValueError
            If obstore refuses the name.
        """
        assert self._store is not None
        part = None if start is None or stop is None else (start, stop)
        result = self._store.get(key, options={"range": part} if part else None)
        data, tag = result.bytes().to_bytes(), object_tag({"etag": result.meta["e_tag"]})
        md5 = _md5_of(tag, part is not None)
        # obstore does not say which objects are encrypted, so that their etags are no MD5s.
        if md5 and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            raise ConnectionError("an etag is not the MD5 of its object")
        self._failures = 0
        return Body(data, tag)

    def open(self, fs: AsyncFileSystem) -> None:
        """Let obstore begin, with the settings of s3fs, which has read an object."""
        with self._lock:
            if not self._is_open:
                self._is_open = True
                try:
                    self._store = open_store(fs, self._bucket, self._timeout, self.patience)
                except Exception as error:  # s3fs can read
                    self._tell(error)

    def count(self, failure: Exception) -> None:
        """Count a read that obstore could not do; let obstore rest after several in a row."""
        with self._lock:
            self._failures += self.is_ready()
            if self._failures >= _MOST_FAILURES:
                self._failures, self._rests_until = 0, time.monotonic() + _REST
                self._tell(failure)

    def _tell(self, failure: Exception) -> None:
        reason = redacted(str(failure).partition("\n")[0])
        logger.info("s3fs reads s3://%s: obstore cannot (%s)", self._bucket, reason)


_lanes: dict[tuple[AsyncFileSystem, str, float], _Lane] = {}


def _lane(fs: AsyncFileSystem, bucket: str, timeout: float) -> _Lane:
    """Return the lane of this process; file systems of other processes are not equal."""
    key = (fs, bucket, timeout)
    return _lanes.get(key) or _lanes.setdefault(key, _Lane(bucket, timeout))


async def _get(fs: Any, bucket: str, key: str, start: int | None, stop: int | None) -> Body:
    """Read by s3fs: body and etag in one request."""
    part = {} if start is None or stop is None else {"Range": f"bytes={start}-{stop - 1}"}
    response = await fs._call_s3("get_object", Bucket=bucket, Key=key, **part)
    async with response["Body"] as stream:
        data = await stream.read()
    encryption = response.get("ServerSideEncryption", "")
    is_encrypted = "kms" in encryption or "SSECustomerAlgorithm" in response
    tag = object_tag(response)
    return Body(data, tag, None if is_encrypted else _md5_of(tag, bool(part)))


def _md5_of(tag: str | None, is_part: bool) -> str | None:
    """Return the etag if it looks like the MD5 of the body."""
    is_plain = tag is not None and re.fullmatch("[0-9a-f]{32}", tag) is not None
    return tag if is_plain and not is_part else None
