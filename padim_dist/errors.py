"""What can go wrong, and how a program should end when it does.

Every message names the thing, what was found, and what to do. Each class also
inherits the builtin that a caller would expect to catch.
"""


class PadimDistError(Exception):
    """Base of all errors that a user can mend.

    Attributes
    ----------
    exit_code : int
        What the command line ends with: 1, the run failed; 2, the request or the
        configuration is wrong.
    """

    exit_code = 1


class ConfigError(PadimDistError, ValueError):
    """A setting is unknown, has a wrong value, or does not go with another one."""

    exit_code = 2


class WeightsError(ConfigError):
    """Weights cannot be had, or do not fit the backbone."""


class RequestError(PadimDistError, LookupError):
    """What was asked for is not there (yet): no model, no run, no labels."""

    exit_code = 2


class ResourceError(PadimDistError, MemoryError):
    """The projected need of memory or disk does not fit; nothing was started."""

    exit_code = 2


class ArchiveError(PadimDistError, OSError):
    """The archive holds nothing that can be used for what was asked."""


class RunError(PadimDistError, RuntimeError):
    """A run started and could not be finished; starting it again resumes it."""


class HeldError(PadimDistError, RuntimeError):
    """Somebody else is at work on the same fit or run."""


class ImageError(PadimDistError, ValueError):
    """One image cannot be used: it becomes a row with this status and reason.

    Parameters
    ----------
    status : str
        ``"unreadable"``, ``"missing"``, ``"changed"`` or ``"too_large"``.
    reason : str
        For people; ends up in the column ``error``.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"
