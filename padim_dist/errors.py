"""Errors and their exit codes.

Every message names the thing, what was found, and what to do. Each class also inherits the
matching builtin.
"""

import padim_dist.escaping  # noqa: F401  (makes log records safe)
from padim_dist.redaction import redacted


class PadimDistError(Exception):
    """Base of all errors that a user can fix; the message is without secrets.

    Attributes
    ----------
    exit_code : int
        Exit code of the command line. 1: the run failed. 2: the request or the configuration
        is wrong.
    """

    exit_code = 1

    def __init__(self, *parts: str) -> None:
        super().__init__(*map(redacted, parts))


class ConfigError(PadimDistError, ValueError):
    """A setting is unknown, has a wrong value, or conflicts with another one."""

    exit_code = 2


class WeightsError(ConfigError):
    """Weights cannot be loaded, or do not fit the backbone."""


class RequestError(PadimDistError, LookupError):
    """The requested model, run or labels do not exist (yet)."""

    exit_code = 2


class ResourceError(PadimDistError, MemoryError):
    """The estimated need of memory or disk does not fit; nothing was started."""

    exit_code = 2


class ArchiveError(PadimDistError, OSError):
    """The archive has no usable images for the request."""


class RunError(PadimDistError, RuntimeError):
    """A run started and failed; starting it again resumes it."""


class HeldError(PadimDistError, RuntimeError):
    """Another process works on the same fit or run."""


class ImageError(PadimDistError, ValueError):
    """One image cannot be used: it becomes a row with this status and reason.

    Parameters
    ----------
    status : str
        ``"unreadable"``, ``"missing"``, ``"changed"`` or ``"too_large"``.
    reason : str
        Text of the column ``error``.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status, self.reason = self.args

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"
