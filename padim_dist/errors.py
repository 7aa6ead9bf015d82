"""Errors and their exit codes.

Every message names the thing, what was found, and what to do. Each class also inherits the
matching builtin.
"""

from __future__ import annotations

import padim_dist.escaping  # noqa: F401  (makes log records safe)
from padim_dist.redaction import redacted


class PadimDistError(Exception):
    """Base of all errors that a user can fix; the message is without secrets.

    Attributes
    ----------
    exit_code : int
        Exit code of the command line. 1: the run failed. 2: the request or the configuration
        is wrong.
    needs_person : bool
        Whether it stays until a person acts, so that a retry is of no use.
    """

    exit_code = 1
    needs_person = False

    def __init__(self, *parts: str) -> None:
        super().__init__(*map(redacted, parts))


class ConfigError(PadimDistError, ValueError):
    """A setting is unknown, has a wrong value, or conflicts with another one."""

    exit_code = 2
    needs_person = True


class WeightsError(ConfigError):
    """Weights cannot be loaded, or do not fit the backbone."""


class RequestError(PadimDistError, LookupError):
    """The requested model, run or labels do not exist (yet)."""

    exit_code = 2
    needs_person = True


class ResourceError(PadimDistError, MemoryError):
    """The estimated need of memory or disk does not fit; nothing was started."""

    exit_code = 2
    needs_person = True


class ArchiveError(PadimDistError, OSError):
    """The archive has no usable images for the request."""


class RunError(PadimDistError, RuntimeError):
    """A run started and failed; starting it again resumes it."""


class HeldError(PadimDistError, RuntimeError):
    """Another process works on the same fit, run or night."""

    needs_person = True


class DamagedFileError(PadimDistError, ValueError):
    """A file of the workspace is damaged.

    Parameters
    ----------
    file, found : str
        Path or URL of the file; what is wrong with it.
    advice : str
        What to do, and what that costs.
    """

    needs_person = True

    def __init__(self, file: str, found: str, advice: str = "") -> None:
        super().__init__(file, found, advice)
        self.file, self.found = file, found
        self.advice = advice or "Restore it from a copy of the workspace"

    def __str__(self) -> str:
        return f"{self.file} is damaged: {self.found}. {self.advice}"

    def advised(self, advice: str) -> DamagedFileError:
        """Return the error with other advice."""
        return DamagedFileError(self.file, self.found, advice)


class ImageError(PadimDistError, ValueError):
    """One image cannot be used: it becomes a row with this status and reason.

    Parameters
    ----------
    status : str
        ``"unreadable"``, ``"missing"``, ``"changed"``, ``"unavailable"``, ``"timeout"`` or
        ``"too_large"``.
    reason : str
        Text of the column ``error``.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = self.args

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error of another library, or its class if it has no message.

    Examples
    --------
    >>> first_line(OSError("no route\nto the host")), first_line(EOFError())
    ('no route', 'EOFError')
    """
    return (str(error) or type(error).__name__).splitlines()[0]
