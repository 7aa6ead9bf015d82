"""Findings of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from padim_dist.redaction import redacted


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    verdict : str
        ``"ok"``; ``"warning"``: works, but look at it; ``"error"``: will fail.
    check, found, remedy : str
        Name of the check, what was found, and what to do; no remedy if nothing is to be done.
    """

    check: str
    verdict: Literal["ok", "warning", "error"]
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", redacted(self.found))
        object.__setattr__(self, "remedy", redacted(self.remedy))


@dataclass(frozen=True)
class DoctorResult:
    """Findings, in the order of the checks."""

    findings: list[Finding]
