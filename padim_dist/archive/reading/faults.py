"""What a failed read means: pure functions of the error.

A fault is the image's, the store's, or may be either. One error of one object does not tell: a
share that is not mounted gives the same one as a deleted file. `archive/reading/witness.py` asks
other objects.
"""

from __future__ import annotations

import errno

from padim_dist.core.status import CHANGED, MISSING, TIMEOUT, UNAVAILABLE
from padim_dist.errors import ImageError, RunError

# Codes of S3 that concern the credentials or the clock, not one object.
_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
# Errors of a disk, network share or process that mostly pass.
_PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EAGAIN,
}


def is_passing(error: Exception, is_local: bool) -> bool:
    """Return whether an error mostly passes, so that waiting helps before others are asked.

    A read error of a disk, a missing object and a refused one mostly stay; every other error of a
    remote store (busy, reset, a short body) mostly passes.

    Examples
    --------
    >>> is_passing(FileNotFoundError(), is_local=False), is_passing(OSError(), is_local=False)
    (False, True)
    """
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False
    if not isinstance(error, OSError) or isinstance(error, (ConnectionError, TimeoutError)):
        return True
    return error.errno in _PASSING if is_local else True


def image_error(error: Exception) -> ImageError:
    """Return what an object's row says, if the store is well: not settled, so it is tried again."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageError(MISSING, "the object of the manifest does not exist")
    if isinstance(error, TimeoutError):
        return ImageError(TIMEOUT, "reading it took longer than archive.read_deadline")
    return ImageError(UNAVAILABLE, f"cannot be read, though the store is well: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """Return an error in words."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def check_code(error: Exception, uri: str) -> None:
    """Raise what the code of a remote store says, if that leaves no doubt.

    Raises
    ------
    RunError
        If the credentials are refused: a retry would not help.
    ImageError
        If the requested range does not exist (any more).
    """
    # Of S3; clients of other stores have other responses.
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    if code == "InvalidRange":
        reason = "the object is shorter than indexed; index the archive again"
        raise ImageError(CHANGED, reason) from None
    if code in _CREDENTIALS:
        raise RunError(f"the store of {uri} refuses the credentials: {error}") from error
